"""From text and tables to rows as numbers, and the same again later."""

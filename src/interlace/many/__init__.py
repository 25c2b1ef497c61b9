"""One model fitted to many responses."""

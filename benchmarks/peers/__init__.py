"""One module (or R script) a package; each runs in a worker process of its own."""

"""Many small fits of one shape at once: the batched twin of solver, criterion and optimiser."""

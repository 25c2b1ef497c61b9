"""Times interlace beside the mixed-model packages that are installed: ``python -m benchmarks``."""

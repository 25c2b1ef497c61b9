"""Fits of the largest crossed models, from generated data; ``python -m benchmarks.large``."""

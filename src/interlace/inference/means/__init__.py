"""Estimated marginal means: a grid, averages over it, contrasts of these, and their tests."""

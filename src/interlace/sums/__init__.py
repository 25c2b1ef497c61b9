"""Rows as numbers, and the sums over them that a mixed model needs."""

"""Generalised linear mixed models: the same equations at working weights."""

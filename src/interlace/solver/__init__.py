"""Factorisations of the mixed-model equations at given templates."""

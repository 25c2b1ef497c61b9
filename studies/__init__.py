"""Simulation studies of what the intervals and tests of interlace deliver: see ``coverage``."""

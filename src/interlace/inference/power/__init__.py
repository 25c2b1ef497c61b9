"""Power of tests by simulation: of a fitted model, or of one that is only described."""

from interlace.inference.power import asked, general, simulate, sizes, study, truth

__all__ = ["asked", "general", "simulate", "sizes", "study", "truth"]

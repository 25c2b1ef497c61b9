"""The frozen value of a fit, and its first verbs: predict, simulate."""

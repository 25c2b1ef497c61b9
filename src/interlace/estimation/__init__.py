"""The criterion of a model, its minimum, and everything that follows from it."""

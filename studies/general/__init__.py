"""A simulation study of generalised models: see ``coverage``."""

"""Inference on fitted models."""

"""Cluster-robust covariances of the fixed effects."""

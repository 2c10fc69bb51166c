"""Explainers that read the attention of a transformer."""

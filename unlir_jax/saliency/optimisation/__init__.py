"""Masks found by gradient descent, for each image."""

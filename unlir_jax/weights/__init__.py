"""Weights as data: readers that run nothing, names, local files."""

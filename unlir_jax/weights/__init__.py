"""Weights as data: readers that run nothing, names, files at hand."""

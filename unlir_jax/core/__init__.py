"""Foundations: random keys, loops, cached factories, finite numbers, the console."""

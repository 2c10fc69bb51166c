"""Detectors that learn from classes of images, on maps of a frozen network."""

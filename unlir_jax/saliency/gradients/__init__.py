"""Gradients of the score with respect to the pixels."""

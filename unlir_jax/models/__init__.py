"""Backbones in Flax Linen."""

"""Robustness: how often attacks and corruptions make a network err."""

"""Folders of runs: their owner, their weights and data, and sharing among runs."""

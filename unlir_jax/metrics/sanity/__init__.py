"""Stability of the map, and its dependence on what the network has learned."""

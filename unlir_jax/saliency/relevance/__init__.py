"""Relevance that is passed back through a network, layer by layer."""

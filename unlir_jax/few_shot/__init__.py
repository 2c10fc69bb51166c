"""Few-shot learning: episodes, probes, and adapters of a frozen network."""

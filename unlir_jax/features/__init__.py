"""Features of a frozen network: cut, pooled, cached and batched."""

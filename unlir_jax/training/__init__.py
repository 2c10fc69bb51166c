"""`unlir train`: from a config to a trained network."""

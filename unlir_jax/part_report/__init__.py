"""`unlir parts`: the parts of a trained network, on one page."""

"""`unlir adapters explain`: the filters that a task uses, on one page."""

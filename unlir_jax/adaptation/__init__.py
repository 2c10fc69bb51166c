"""Learning from few pictures a class: draws, probes, and weights of frozen filters."""

"""Open-set recognition: scores that tell known classes from unknown ones."""

"""Statistics of scores: intervals, tests, correlations, agreement, rankings."""

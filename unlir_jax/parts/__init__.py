"""Parts of objects: discovery, starting points, attribution and closed-form fits."""

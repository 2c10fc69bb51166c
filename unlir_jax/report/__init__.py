"""Reports for people: overlays, comparison sheets and the page that explains them."""

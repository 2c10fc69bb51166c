"""What people look at: overlays, comparison sheets and the page that explains them."""

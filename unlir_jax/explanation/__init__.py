"""`unlir explain`: from image files to maps, scores and a report."""

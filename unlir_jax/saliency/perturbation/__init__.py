"""Scores of images of which parts are hidden."""

"""Agreement of the map with the object's mask or boxes."""

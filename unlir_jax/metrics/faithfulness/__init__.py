"""Effects of masking, inserting and removing what the map marks."""

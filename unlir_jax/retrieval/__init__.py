"""`unlir retrieve`: image search by descriptors."""

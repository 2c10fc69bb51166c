"""Maps that follow the borders of the image: seeds, and what is made of them."""

"""Class activation maps: feature maps at the cut, weighted and summed."""

"""Studies: networks that were trained in several ways, scored alike and compared."""

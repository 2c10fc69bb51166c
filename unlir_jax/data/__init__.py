"""Pictures in, arrays out."""

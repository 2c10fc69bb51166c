"""Files: paths, JSON documents, locks, and writing that is complete or absent."""

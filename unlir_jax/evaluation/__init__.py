"""The pieces of `unlir evaluate`: what is scored, kept, compared and shown."""

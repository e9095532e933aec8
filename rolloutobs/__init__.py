"""rolloutobs."""

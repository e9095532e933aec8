"""Who this process is, where nobody said so: its version, service and track from what surrounds it."""

"""What load generators say of a server that stalls, beside the truth."""

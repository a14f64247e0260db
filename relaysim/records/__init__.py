"""What a simulation recorded, and the plain data that rebuilds it."""

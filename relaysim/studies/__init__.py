"""Many simulations: tuning, sweeps and their store."""

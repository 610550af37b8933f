"""Temperature control and noise: what acts on the velocities beside the forecast."""

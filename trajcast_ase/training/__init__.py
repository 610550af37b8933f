"""From any MD trajectory with velocities to a model file."""

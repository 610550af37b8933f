"""The dynamics of Atoms: driver and replicas, their files, stops and fallbacks."""

"""Whether a run can be trusted: its observables against those of a reference run."""

"""From a structure and a calculator to a forecaster held against the user's own MD."""

from trajcast_ase.distill.conduct import Outcome, distill

__all__ = ["Outcome", "distill"]

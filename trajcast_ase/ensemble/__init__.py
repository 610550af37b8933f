"""Ensembles: replicas of starts and temperatures on many workers."""

from trajcast_ase.ensemble.engine import SharesFailedError, Status
from trajcast_ase.ensemble.plan import EnsembleError, Plan
from trajcast_ase.ensemble.result import (
    Average,
    EnsembleResult,
    Replica,
    read_ensemble,
    write_result,
)
from trajcast_ase.ensemble.run import UnfinishedError, ensemble

__all__ = [
    "Average",
    "EnsembleError",
    "EnsembleResult",
    "Plan",
    "Replica",
    "SharesFailedError",
    "Status",
    "UnfinishedError",
    "ensemble",
    "read_ensemble",
    "write_result",
]

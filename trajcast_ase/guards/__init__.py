"""Guards of a run: what is looked at in each forecast, and what is done about it."""

from trajcast_ase.guards.bonds import BondLimits, KeptBonds
from trajcast_ase.guards.committee import CommitteeGuard
from trajcast_ase.guards.default import GuardMaker, default_guards
from trajcast_ase.guards.distances import LeastDistance, NeighborNumbers
from trajcast_ase.guards.energy import EnergyChange
from trajcast_ase.guards.motion import LargestKick, LargestSpeed
from trajcast_ase.guards.protocol import Finding, Guard, Objection
from trajcast_ase.guards.reversal import ReversalGuard
from trajcast_ase.guards.thermal import TemperatureWindow

__all__ = [
    "BondLimits",
    "CommitteeGuard",
    "EnergyChange",
    "Finding",
    "Guard",
    "GuardMaker",
    "KeptBonds",
    "LargestKick",
    "LargestSpeed",
    "LeastDistance",
    "NeighborNumbers",
    "Objection",
    "ReversalGuard",
    "TemperatureWindow",
    "default_guards",
]

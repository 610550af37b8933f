"""Values that options of several commands take."""

from enum import StrEnum


class Precision(StrEnum):
    """Floating-point types of a network."""

    FLOAT32 = "float32"
    FLOAT64 = "float64"


class LammpsUnitStyle(StrEnum):
    """Unit styles of LAMMPS dumps; see :data:`trajcast_ase.lammps_dump.LammpsUnits`."""

    REAL = "real"
    METAL = "metal"
    SI = "si"
    CGS = "cgs"
    ELECTRON = "electron"


class GuardAction(StrEnum):
    """What a guard's objection does."""

    STOP = "stop"
    WARN = "warn"
    OFF = "off"


class EngineName(StrEnum):
    """Where strides are made."""

    HOST = "host"
    DEVICE = "device"


class TrajectoryFormat(StrEnum):
    """Formats of trajectories of ``trajcast run``."""

    TRAJ = "traj"
    EXTXYZ = "extxyz"
    DCD = "dcd"
    H5MD = "h5md"

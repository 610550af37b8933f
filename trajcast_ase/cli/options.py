"""Options that several commands have, and the values that they take."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from trajcast_ase.cli.thermostat import (
    LANGEVIN_FRICTION,
    RESPONSE,
    WEAK_FRICTION,
    ThermostatName,
)


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


class BackendName(StrEnum):
    """What computes a network."""

    AUTO = "auto"
    REFERENCE = "reference"
    CPP = "cpp"
    TRITON = "triton"


class TrajectoryFormat(StrEnum):
    """Formats of trajectories of ``trajcast run``."""

    TRAJ = "traj"
    EXTXYZ = "extxyz"
    DCD = "dcd"
    H5MD = "h5md"


ThermostatOption = Annotated[
    ThermostatName,
    typer.Option(help="csvr is the paper's; none conserves what the model conserves."),
]
TautOption = Annotated[
    float | None, typer.Option(help="Time constant of csvr, fs. Default: ten strides.")
]
FrictionOption = Annotated[
    float | None,
    typer.Option(
        help=f"Of langevin, 1/fs. Default: {LANGEVIN_FRICTION:g} alone, "
        f"{WEAK_FRICTION:g} beside csvr and for the noise of adaptive."
    ),
]
ResponseOption = Annotated[
    float | None,
    typer.Option(
        help="Time in which the friction of adaptive follows, fs. Default: "
        f"{RESPONSE:g}."
    ),
]
NoiseOption = Annotated[
    bool, typer.Option("--noise", help="Add the model's calibrated noise.")
]
DrawVelocitiesOption = Annotated[
    bool, typer.Option("--draw-velocities", help="Also where a structure has them.")
]
DeviceOption = Annotated[str, typer.Option(help="cpu or cuda.")]
EngineOption = Annotated[
    EngineName,
    typer.Option(
        help="device: strides stay on the device, where guards and files ask for them; "
        "other random numbers."
    ),
]
BackendOption = Annotated[
    BackendName,
    typer.Option(
        help="Of the network: cpp on a CPU, triton on an NVIDIA card, reference "
        "anywhere. auto: cpp where it works, else reference."
    ),
]
PrecisionOption = Annotated[
    Precision | None, typer.Option(help="Of the network. Default: as in its file.")
]
CheckpointMinutesOption = Annotated[
    float, typer.Option(min=0.0, help="Wall time between two checkpoints.")
]
MaxHoursOption = Annotated[
    float | None,
    typer.Option(
        min=0.0, help="End with a checkpoint after this wall time (exit status 75)."
    ),
]
StopFileOption = Annotated[
    Path | None,
    typer.Option(help="End with a checkpoint when this file appears (status 75)."),
]

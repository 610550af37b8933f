"""Hyperparameters and constants of the network, checked when they are made."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from ase.data import chemical_symbols

from trajcast_ase.network.irreps import Parity
from trajcast_ase.network.shapes import n_numbers
from trajcast_ase.strict import choice, flag, integer, members, number, shortened

CONSTANTS = (
    "horizon_fs",
    "displacement_rms",
    "velocity_rms",
    "avg_num_neighbors",
    "velocity_max",
)
# Beyond these no physics is meant, and float32 would overflow.
CONSTANT_RANGE = (1e-12, 1e12)
CUTOFF_RANGE = (0.1, 100.0)
# Far above what anybody trains, far below what would not fit into memory. Products grow
# as the fifth power of lmax, displacements are vectors, and the readout uses a quarter
# of the channels.
COUNTS = {
    "n_channels": (4, 1024),
    "lmax": (1, 6),
    "n_layers": (1, 16),
    "n_edge_rbf": (1, 256),
    "edge_poly_cutoff": (2, 64),
    "n_surroundings_rbf": (1, 256),
    "n_velocity_rbf": (1, 256),
}
MOST_WIDTHS = 8
LARGEST_WIDTH = 4096
MOST_NUMBERS = 100_000_000


@dataclass(frozen=True, slots=True)
class ForecasterConfig:
    """Hyperparameters and constants of a :class:`Forecaster`.

    Attributes
    ----------
    elements : tuple of int
        Atomic numbers that the network knows, in the order of its species index.
    horizon_fs : float, fs
        Time that one forecast covers.
    cutoff : float, Å
    displacement_rms : float, Å
        Unit of the displacement target, per Cartesian component.
    velocity_rms : float, Å/fs
        Unit of the velocity target, per Cartesian component.
    avg_num_neighbors : float
        Divisor of the summed messages.
    n_channels, lmax, n_layers : int
    parity : "both" or "natural"
        Features of both parities for each l (published), or only those with the parity
        of the spherical harmonics: no pseudoscalars, axial vectors and the like, and
        a third of the paths, so that as much time affords more channels.
    n_edge_rbf, edge_poly_cutoff : int
        Bessel functions of the edge length and exponent of their envelope.
    surroundings_cutoff : float or None, Å
        Out to where elements and places of all atoms enter the features of an atom,
        before the first layer (:mod:`.surroundings`); None (published): not at all.
    n_surroundings_rbf : int
        Bessel functions of the length for it.
    edge_mlp, velocity_mlp : tuple of int
        Hidden widths of the perceptrons that give the weights of the products.
    n_velocity_rbf : int
    velocity_encoding : "direction" or "thermal"
        "direction" (published): spherical harmonics of the velocity's direction, and
        speeds in Å/fs. "thermal": solid harmonics of the velocity in units of its
        element's rms speed, and an own map for each element; continuous at
        rest and linear in the velocity where the dynamics is (docs/method.md).
    velocity_max : float
        Upper end of the speed basis: Å/fs for "direction", multiples of the rms
        speed for "thermal".
    velocity_scales : tuple of float, Å/fs
        Rms speed of each element; empty for "direction".
    velocity_saturation : float or None
        Multiple of the rms speed that a speed approaches in the "thermal" encoding, so
        that a rare fast atom cannot blow up the products of its harmonics; None: never.
    largest_speeds : tuple of float, Å/fs
        Of each element in the training data. A faster atom enters the "thermal"
        encoding as one of this speed: beyond it the network has learnt nothing, and
        its products grow without bounds (docs/method.md). Empty: no limits.
    conserve_angular_momentum : bool
        For systems without any periodic axis.
    fixed_angular_momentum : tuple of 3 floats or None, amu Å²/fs
        Impose this value instead of conserving the input's (published files do).
    """

    elements: tuple[int, ...]
    horizon_fs: float
    cutoff: float
    displacement_rms: float
    velocity_rms: float
    avg_num_neighbors: float
    n_channels: int = 64
    lmax: int = 2
    n_layers: int = 4
    parity: Parity = "both"
    n_edge_rbf: int = 8
    edge_poly_cutoff: int = 6
    surroundings_cutoff: float | None = None
    n_surroundings_rbf: int = 16
    edge_mlp: tuple[int, ...] = (64, 64, 64)
    n_velocity_rbf: int = 8
    velocity_mlp: tuple[int, ...] = (64, 64, 64)
    velocity_encoding: Literal["direction", "thermal"] = "thermal"
    velocity_max: float = 4.0
    velocity_scales: tuple[float, ...] = ()
    velocity_saturation: float | None = 3.0
    largest_speeds: tuple[float, ...] = ()
    conserve_angular_momentum: bool = True
    fixed_angular_momentum: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        _check_config(self)

    @property
    def reach(self) -> float:
        """Length of the longest pairs that the network looks at, Å."""
        return max(self.cutoff, self.surroundings_cutoff or 0.0)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Chemical symbols of the elements."""
        return tuple(chemical_symbols[number] for number in self.elements)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serialisable dictionary."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the configuration of a dictionary.

        Raises
        ------
        ValueError
            A key is unknown or missing, or a value is out of range.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        members(values, "the network configuration", dict)
        unknown = sorted(set(values) - set(fields))
        if unknown:
            raise ValueError(
                f"unknown key {shortened(unknown[0])} in the network configuration; "
                f"known: {', '.join(fields)}"
            )
        required = [
            name
            for name, field in fields.items()
            if field.default is dataclasses.MISSING
        ]
        missing = [name for name in required if name not in values]
        if missing:
            raise ValueError(f"the network configuration lacks {missing[0]!r}")
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**plain)


def _check_config(config: ForecasterConfig) -> None:
    for name in CONSTANTS:
        number(getattr(config, name), name, *CONSTANT_RANGE)
    for name, (low, high) in COUNTS.items():
        integer(getattr(config, name), name, low, high)
    for name in ("edge_mlp", "velocity_mlp"):
        _check_widths(getattr(config, name), name)
    choice(config.parity, "parity", get_args(Parity))
    choice(config.velocity_encoding, "velocity_encoding", ("direction", "thermal"))
    _check_elements(config.elements)
    _check_cutoffs(config)
    _check_velocities(config)
    flag(config.conserve_angular_momentum, "conserve_angular_momentum")
    _check_fixed_momentum(config.fixed_angular_momentum)
    size = n_numbers(config)
    if size > MOST_NUMBERS:
        raise ValueError(
            f"n_channels = {config.n_channels} and the other sizes make a network of "
            f"{size:,} parameters; at most {MOST_NUMBERS:,} are supported"
        )


def _check_widths(widths: Any, name: str) -> None:
    if len(members(widths, name, tuple)) > MOST_WIDTHS:
        raise ValueError(f"{name} has {len(widths)} widths; at most {MOST_WIDTHS}")
    for width in widths:
        integer(width, f"{name}, a width", 1, LARGEST_WIDTH)


def _check_elements(elements: Any) -> None:
    for atomic_number in members(elements, "elements", tuple):
        integer(
            atomic_number, "elements, an atomic number", 1, len(chemical_symbols) - 1
        )
    if not elements or len(set(elements)) != len(elements):
        raise ValueError(f"elements = {elements} must be distinct and not empty")


def _check_cutoffs(config: ForecasterConfig) -> None:
    number(config.cutoff, "cutoff", *CUTOFF_RANGE)
    farthest = config.surroundings_cutoff
    if farthest is None:
        return
    number(farthest, "surroundings_cutoff", *CUTOFF_RANGE)
    if not farthest > config.cutoff:
        raise ValueError(
            f"surroundings_cutoff = {farthest:g} Å must be larger than cutoff = "
            f"{config.cutoff:g} Å, or left out"
        )


def _check_velocities(config: ForecasterConfig) -> None:
    if config.velocity_saturation is not None:
        number(config.velocity_saturation, "velocity_saturation", *CONSTANT_RANGE)
    scales = members(config.velocity_scales, "velocity_scales", tuple)
    expected = len(config.elements) if config.velocity_encoding == "thermal" else 0
    if len(scales) != expected:
        raise ValueError(
            f"velocity_scales = {scales} must hold {expected} positive numbers for "
            f"velocity_encoding = {config.velocity_encoding!r}"
        )
    for scale in scales:
        number(scale, "velocity_scales, one of them", *CONSTANT_RANGE)
    largest = members(config.largest_speeds, "largest_speeds", tuple)
    if len(largest) not in {0, expected}:
        raise ValueError(
            f"largest_speeds = {largest} must hold {expected} positive numbers for "
            f"velocity_encoding = {config.velocity_encoding!r}, or none"
        )
    for speed in largest:
        number(speed, "largest_speeds, one of them", *CONSTANT_RANGE)


def _check_fixed_momentum(momentum: Any) -> None:
    if momentum is None:
        return
    name = "fixed_angular_momentum"
    if len(members(momentum, name, tuple)) != 3:  # noqa: PLR2004  a vector
        raise ValueError(f"{name} = {momentum} must hold three numbers")
    high = CONSTANT_RANGE[1]
    for component in momentum:
        number(component, f"{name}, a component", -high, high)

"""Systems and networks that ``run.py`` times, and who competes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from ase import Atoms
from e3nn_rival import Codegen, Rival, build_rival
from memory import available_memory
from torch import Tensor

from trajcast_ase import import_published, load_model
from trajcast_ase.conservation import Conservation
from trajcast_ase.data import ethanol, paracetamol, quartz, water
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.neighbors import find_edges
from trajcast_ase.network import Forecaster
from trajcast_ase.state import State, state_from_atoms
from trajcast_ase.stride import ForecastModel

Network = Literal["paper", "shipped"]

TEMPERATURE_K = 300.0
SHAKE = 0.02
"""Random displacement along each axis, Å."""
WIDTHS = {"n_neurons": [64, 64, 64], "activation": "silu"}
LARGEST_SPEED = 0.06
"""Upper end of the speed basis, Å/fs."""
DISPLACEMENT_RMS = 1e-4
"""Å. Weights are random: this small, a long run stays near its structure."""
VELOCITY_RMS = 0.01
"""Å/fs."""
LIMITS = {"e3nn": 50_000, "reference": 50_000, "compile": 5_000}
"""Most edges of each rival; above, steps take a quarter of a minute or more.

Compilation takes three minutes, and is worth it for two systems.
"""
STEP_BYTES = 150e3
"""Memory of a rival of the paper's size per edge, which it writes to every message."""
TRAINING_BYTES = 450e3
"""With what the backward pass wants to have kept."""
AGREEMENT = 1e-6
"""Of the float64 outputs, relative to the largest."""


@dataclass(frozen=True, slots=True)
class Case:
    """A system to time.

    Attributes
    ----------
    name, family : str
    structure : callable
        Gives the bundled structure, without momenta.
    repeats : (int, int, int)
        Of the bundled cell along each axis.
    cutoff : float, Å
        Of the paper-size network.
    horizon_fs : float, fs
    taut_fs : float, fs
        Time constant of CSVR.
    shipped : str
        Name of the bundled model.
    """

    name: str
    family: str
    structure: Callable[[], Atoms]
    repeats: tuple[int, int, int]
    cutoff: float
    horizon_fs: float
    taut_fs: float
    shipped: str

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.structure()) * math.prod(self.repeats)

    def atoms(self, seed: int = 1) -> Atoms:
        """Return the system with momenta of 300 K."""
        atoms, rng = self.structure(), np.random.default_rng(seed)
        if self.n_atoms > len(atoms):
            atoms = atoms.repeat(self.repeats)
        # Copies have edges of equal lengths, which our network computes only once.
        atoms.positions += SHAKE * rng.standard_normal((len(atoms), 3))
        draw_momenta(atoms, TEMPERATURE_K, rng)
        return atoms


def _cases() -> dict[str, Case]:
    families: tuple[tuple[Any, ...], ...] = (
        ("ethanol", ethanol, {"": (1, 1, 1)}, (4.0, 6.5, 65.0, "ethanol-gfn2")),
        (
            "paracetamol",
            paracetamol,
            {"": (1, 1, 1)},
            (4.0, 7.0, 70.0, "paracetamol-7fs"),
        ),
        (
            "quartz",
            quartz,
            {
                "-162": (1, 1, 1),
                "-1296": (2, 2, 2),
                "-4374": (3, 3, 3),
                "-34992": (6, 6, 6),
                "-104976": (9, 9, 8),
            },
            (4.5, 30.0, 75.0, "quartz-30fs"),
        ),
        (
            "water",
            water,
            {"-192": (1, 1, 1), "-1536": (2, 2, 2), "-5184": (3, 3, 3)},
            (6.0, 5.0, 50.0, "water-5fs"),
        ),
    )
    return {
        family + suffix: Case(family + suffix, family, structure, repeats, *rest)
        for family, structure, sizes, rest in families
        for suffix, repeats in sizes.items()
    }


CASES = _cases()
LARGEST = "quartz-104976"
"""Not among "all": it takes some GB and as long as all others."""
FAMILIES = {case.family: case for case in CASES.values() if case.repeats == (1, 1, 1)}
"""The bundled system of each family."""


class RivalModel:
    """A rival as a :class:`~trajcast_ase.stride.ForecastModel`.

    Neighbors and conservation are ours, so that strides differ by the network alone.

    Parameters
    ----------
    network : Rival
    options : dict
        Of the network.
    horizon_fs : float, fs
    """

    def __init__(
        self, network: Rival, options: Mapping[str, Any], horizon_fs: float
    ) -> None:
        self.network = network
        self.options = options
        self.horizon_fs = horizon_fs
        self.conservation = Conservation()
        self.device = torch.device("cpu")

    def to(self, device: torch.device | str) -> RivalModel:
        """Return the rival on `device`."""
        self.network.to(device)
        self.device = torch.device(device)
        return self

    def check_elements(self, atomic_numbers: Tensor) -> None:
        """Raise ValueError for an element that the rival does not know."""
        unknown = set(atomic_numbers.tolist()) - set(self.options["atomic_numbers"])
        if unknown:
            raise ValueError(
                f"atomic number {min(unknown)} is unknown to this rival, which knows "
                f"{self.options['atomic_numbers']}; build one for the system"
            )

    def raw_forecast(self, state: State) -> tuple[Tensor, Tensor]:
        """Return displacements (Å) and velocities (Å/fs) before conservation."""
        edges = find_edges(state, self.options["edge_cutoff"])
        targets = self.network(state.atomic_numbers, state.velocities, edges).double()
        lengths, speeds = self.options["rms_targets"]
        return targets[:, 0] * lengths, targets[:, 1] * speeds


def paper_options(case: Case) -> dict[str, Any]:
    """Return the configuration of the paper-size network for a system."""
    state = state_from_atoms(case.structure())
    numbers = sorted(set(state.atomic_numbers.tolist()))
    n_edges = len(find_edges(state, case.cutoff).receivers)
    return {
        "num_chem_elements": len(numbers),
        "atomic_numbers": numbers,
        "rms_targets": [DISPLACEMENT_RMS, VELOCITY_RMS],
        "edge_cutoff": case.cutoff,
        "num_edge_rbf": 8,
        "num_edge_poly_cutoff": 6,
        "vel_max": LARGEST_SPEED,
        "num_vel_rbf": 8,
        "max_rotation_order": 2,
        "num_hidden_channels": 64,
        "num_mp_layers": 4,
        "avg_num_neighbors": n_edges / state.n_atoms,
        "edge_mlp_kwargs": WIDTHS,
        "vel_mlp_kwargs": WIDTHS,
        "conserve_ang_mom": True,
    }


def paper_weights(options: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return seeded weights of the paper-size network in the published layout."""
    return build_rival(options, seed=0, codegen="eager").published()


def our_model(case: Case, network: Network, dtype: torch.dtype) -> Forecaster:
    """Return our network on the CPU, on the backend "auto"."""
    if network == "shipped":
        model = load_model(case.shipped)
    else:
        options = paper_options(case)
        model = import_published(
            {"model": options},
            paper_weights(options),
            elements=options["atomic_numbers"],
            horizon_fs=case.horizon_fs,
        )
    return model.to(dtype).set_backend("auto")


def rival_model(case: Case, rival: str) -> RivalModel:
    """Return the e3nn formulation, "e3nn" or "compile", with our weights in float32."""
    options = paper_options(case)
    codegen: Codegen = "eager" if rival == "compile" else "script"
    network = build_rival(options, seed=0, codegen=codegen)
    network.load_published(paper_weights(options))
    network.requires_grad_(requires_grad=False)
    if rival == "compile":
        # The whole network as one graph takes the compiler many times as long.
        for layer in network.layers:
            layer.compile(dynamic=False)
    return RivalModel(network, options, case.horizon_fs)


def reason_against(rival: str, network: Network, n_edges: int, n_bytes: float) -> str:
    """Return why a rival is not timed, or nothing.

    Parameters
    ----------
    rival : str
    network : "paper" or "shipped"
    n_edges : int
    n_bytes : float
        That are left.
    """
    if rival != "reference" and network == "shipped":
        return "the published network has no thermal velocity encoding"
    if n_edges > LIMITS[rival]:
        return f"{n_edges} edges, timed up to {LIMITS[rival]}"
    return memory_reason(STEP_BYTES * n_edges, n_bytes)


def memory_reason(needed: float, left: float) -> str:
    """Return why a rival that needs so many bytes is not timed, or nothing."""
    if needed <= left:
        return ""
    return f"would need {needed / 1e9:.1f} GB of memory, {left / 1e9:.1f} GB are left"


def contestants(
    case: Case, network: Network, rivals: Iterable[str], device: str
) -> tuple[dict[str, ForecastModel], dict[str, str]]:
    """Return who competes in float32, and why the others do not.

    Parameters
    ----------
    case : Case
    network : "paper" or "shipped"
    rivals : iterable of "e3nn", "compile" and "reference"
    device : str
    """
    ours = our_model(case, network, torch.float32).to(device).set_backend("auto")
    state = state_from_atoms(case.atoms())
    n_edges = len(find_edges(state, ours.config.cutoff).receivers)
    left = available_memory(device)
    reasons = {rival: reason_against(rival, network, n_edges, left) for rival in rivals}
    models: dict[str, ForecastModel] = {"ours": ours}
    for rival in (rival for rival, reason in reasons.items() if not reason):
        if rival == "reference":
            models[rival] = copy.deepcopy(ours).set_backend("reference")
        else:
            models[rival] = rival_model(case, rival).to(device)
    return models, {rival: reason for rival, reason in reasons.items() if reason}


def float32_error(family: str, network: Network) -> float:
    """Return our largest float32 deviation, relative to the largest float64 output.

    Of the bundled structure. For the paper-size network, checks first that the e3nn
    formulation gives the same in float64.

    Raises
    ------
    RuntimeError
        The two formulations differ.
    """
    case = FAMILIES[family]
    state = state_from_atoms(case.atoms())
    exact = our_model(case, network, torch.float64).set_backend("reference")
    edges = find_edges(state, exact.config.reach)
    with torch.no_grad():
        expected = _outputs(exact, state)
        if network == "paper":
            rival = rival_model(case, "e3nn").network.double()
            theirs = rival(state.atomic_numbers, state.velocities, edges)
            deviation = _relative(theirs, expected)
            if not deviation < AGREEMENT:
                raise RuntimeError(
                    f"the formulations differ by {deviation:.1e} of the largest output "
                    f"for {case.name}, the limit is {AGREEMENT}; do not compare their "
                    "speed before they agree"
                )
        return _relative(
            _outputs(our_model(case, network, torch.float32), state), expected
        )


def _outputs(model: Forecaster, state: State) -> torch.Tensor:
    """Return the network's targets as a run computes them."""
    targets: torch.Tensor = model(
        state.atomic_numbers, state.velocities, model.neighborhood(state)
    )
    return targets


def _relative(values: Tensor, expected: Tensor) -> float:
    return float((values - expected).abs().max() / expected.abs().max())

"""Everything that a run needs to go on exactly: Atoms, thermostats, random numbers.

A checkpoint holds, for each system, the Atoms with positions and momenta to the last
bit, the step, the variables and generators of thermostats and noise, the settings, and
how far the output files had come. Random numbers are kept as the state of the user's
own generators, so that any generator of numpy will do.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol, runtime_checkable

import numpy as np
import torch
from ase import Atoms
from ase.constraints import dict2constraint
from torch import Tensor

from trajcast_ase.dynamics.file_marks import CheckpointError, FileMark
from trajcast_ase.dynamics.kept_arrays import arrays_of, kept_arrays
from trajcast_ase.sealed import Sealed, SealError, read_sealed, write_sealed
from trajcast_ase.thermostats.noise import ForecastNoise
from trajcast_ase.thermostats.thermostat import Thermostat

KIND = "trajcast-run-2"
PREVIOUS = ".previous"
"""Ends the name of the checkpoint before the last one."""


@runtime_checkable
class Restartable(Protocol):
    """What a thermostat offers, so that runs with it can be continued exactly."""

    def get_state(self, system: int) -> dict[str, Any]:
        """Return the variables and random numbers of a system as plain values."""

    def set_state(self, system: int, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`get_state` returned."""


@dataclass(frozen=True, slots=True)
class RunState:
    """One system of a checkpoint.

    Attributes
    ----------
    atoms : Atoms
        Without calculator; of arrays real numbers, bools and texts.
    nsteps : int
    settings : dict
        As of ``TrajCast.todict``, compared when the run goes on.
    circumstances : dict
        What a run may go on without, but then no longer bit for bit: device, guards.
    thermostats : tuple of dict
        State of each thermostat for this system, in their order.
    noise : dict or None
        State of the noise for this system.
    files : dict of "trajectory" and "logfile" to FileMark
        Those that the run writes.
    intervals : dict of "trajectory" and "logfile" to int
        Steps between two of their frames or rows.
    guards : dict
        What the guards found, and the bonds that they keep.
    number : int
        Of the replica; 0 for a single run.
    lost : str or None
        Why the replica is lost.
    """

    atoms: Atoms
    nsteps: int
    settings: dict[str, Any]
    circumstances: dict[str, Any]
    thermostats: tuple[dict[str, Any], ...]
    noise: dict[str, Any] | None
    files: dict[str, FileMark]
    intervals: dict[str, int]
    guards: dict[str, Any]
    number: int = 0
    lost: str | None = None


class CheckpointElsewhereError(OSError):
    """A checkpoint could not be written to its place, and lies in another.

    Attributes
    ----------
    place : Path
        Where it lies, complete.
    """

    def __init__(self, path: Path, place: Path, nsteps: int, reason: OSError) -> None:
        super().__init__(
            f"{path} cannot be written ({reason}); step {nsteps} is kept as {place}: "
            f"make room, 'mv {place} {path}', and restart as usual (the same command "
            "with --restart, or restart(...) in Python)"
        )
        self.place = place


def check_restartable(thermostats: Sequence[Thermostat]) -> None:
    """Raise CheckpointError for a thermostat whose state cannot be kept."""
    for one in thermostats:
        if not isinstance(one, Restartable):
            raise CheckpointError(
                f"a {type(one).__name__} cannot be continued from a checkpoint: it "
                "lacks the methods get_state and set_state of "
                "trajcast_ase.dynamics.checkpoint.Restartable; give it both, or use a "
                "thermostat of trajcast_ase"
            )


def thermostat_states(
    thermostats: Sequence[Thermostat], system: int
) -> tuple[dict[str, Any], ...]:
    """Return the states of thermostats for a system of their batch."""
    check_restartable(thermostats)
    kept = (one for one in thermostats if isinstance(one, Restartable))
    return tuple(one.get_state(system) for one in kept)


def restore_thermostats(
    thermostats: Sequence[Thermostat],
    system: int,
    states: Sequence[Mapping[str, Any]],
) -> None:
    """Put back what :func:`thermostat_states` returned.

    Raises
    ------
    CheckpointError
        A state is not one of its thermostat.
    """
    check_restartable(thermostats)
    try:
        for one, state in zip(thermostats, states, strict=True):
            if isinstance(one, Restartable):
                one.set_state(system, state)
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"the thermostats cannot take over the state of the checkpoint ({error})"
        ) from error


def noise_state(noise: ForecastNoise | None, system: int) -> dict[str, Any] | None:
    """Return the random numbers of noise for a system of its batch."""
    return None if noise is None else noise.get_state(system)


def restore_noise(
    noise: ForecastNoise | None, system: int, state: Mapping[str, Any] | None
) -> None:
    """Put back what :func:`noise_state` returned.

    Raises
    ------
    CheckpointError
        The state is not one of this noise.
    """
    if noise is None or state is None:
        return
    try:
        noise.set_state(system, state)
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"the noise cannot take over the state of the checkpoint ({error})"
        ) from error


def write_checkpoint(path: Path, runs: Sequence[RunState]) -> None:
    """Write a checkpoint; the one before stays as ``PATH.previous``.

    A kill at any moment leaves at least one that can be read.

    Raises
    ------
    CheckpointElsewhereError
        The place cannot be written; it names the one that holds the checkpoint.
    OSError
        Nor can the system's temporary folder.
    """
    tensors: dict[str, Tensor] = {}
    values = []
    for k, run in enumerate(runs):
        tensors[f"{k}/cell"] = torch.tensor(run.atoms.cell.array)
        arrays = kept_arrays(run.atoms)
        tensors |= {f"{k}/{name}": values for name, values in arrays.items()}
        values.append(_values(run))
    content = Sealed(tensors, {"runs": values})
    try:
        if path.exists():
            path.replace(previous(path))
        write_sealed(path, KIND, content)
    except OSError as error:
        _write_elsewhere(path, content, runs[0].nsteps, error)


def _write_elsewhere(
    path: Path, content: Sealed, nsteps: int, reason: OSError
) -> NoReturn:
    """Write a checkpoint to the temporary folder, and raise for its own place."""
    try:
        place = Path(tempfile.mkdtemp(prefix="trajcast-")) / path.name
        write_sealed(place, KIND, content)
    except OSError as error:
        raise OSError(
            f"{path} cannot be written ({reason}), nor can the temporary folder "
            f"({error}): step {nsteps} is not kept"
        ) from reason
    raise CheckpointElsewhereError(path, place, nsteps, reason) from reason


def read_checkpoint(path: Path) -> tuple[RunState, ...]:
    """Return the systems of a checkpoint.

    Where the file is absent or damaged, those of ``PATH.previous``, with a warning.

    Raises
    ------
    FileNotFoundError
        Neither is there.
    CheckpointError
        None of both can be read.
    """
    try:
        return _read(path)
    except (FileNotFoundError, CheckpointError) as error:
        before = previous(path)
        if not before.exists():
            raise
        runs = _read(before)
        warnings.warn(
            f"{error}; going on from {before}, step {runs[0].nsteps}",
            UserWarning,
            stacklevel=3,
        )
        return runs


def has_checkpoint(path: Path) -> bool:
    """Return whether there is a checkpoint or the one before it."""
    return path.exists() or previous(path).exists()


def previous(path: Path) -> Path:
    """Return where the checkpoint before that of `path` is kept."""
    return path.with_name(path.name + PREVIOUS)


def _read(path: Path) -> tuple[RunState, ...]:
    try:
        content = read_sealed(path, KIND)
    except SealError as error:
        raise CheckpointError(f"{error}; delete it to start anew") from error
    try:
        return tuple(
            _run(content.tensors, k, values)
            for k, values in enumerate(content.values["runs"])
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{path} does not hold what a checkpoint should "
            f"({type(error).__name__}: {error}); delete it to start anew"
        ) from error


def _values(run: RunState) -> dict[str, Any]:
    """Return the plain values of a system."""
    return {
        "nsteps": run.nsteps,
        "number": run.number,
        "lost": run.lost,
        "settings": run.settings,
        "circumstances": run.circumstances,
        "thermostats": list(run.thermostats),
        "noise": run.noise,
        "guards": run.guards,
        "files": {name: mark.todict() for name, mark in run.files.items()},
        "intervals": run.intervals,
        "pbc": [bool(one) for one in run.atoms.pbc],
        "constraints": [plain(one.todict()) for one in run.atoms.constraints],
        "info": _plain_info(run.atoms),
    }


def _run(tensors: Mapping[str, Tensor], k: int, values: Mapping[str, Any]) -> RunState:
    _check_types(values)
    arrays = arrays_of(tensors, f"{k}/")
    atoms = Atoms(
        numbers=arrays.pop("numbers"),
        positions=arrays.pop("positions"),
        cell=tensors[f"{k}/cell"].numpy(),
        pbc=values["pbc"],
        info=values["info"],
    )
    for name, array in arrays.items():
        atoms.set_array(name, array)
    atoms.set_constraint([dict2constraint(one) for one in values["constraints"]])
    return RunState(
        atoms=atoms,
        nsteps=values["nsteps"],
        settings=values["settings"],
        circumstances=values["circumstances"],
        thermostats=tuple(values["thermostats"]),
        noise=values["noise"],
        files={n: FileMark.from_dict(mark) for n, mark in values["files"].items()},
        intervals=values["intervals"],
        guards=values["guards"],
        number=values["number"],
        lost=values["lost"],
    )


def _check_types(values: Mapping[str, Any]) -> None:
    """Raise TypeError for plain values that are not what they should be."""
    periodic = values["pbc"]
    checks = {
        "nsteps": _is_count(values["nsteps"]),
        "number": _is_count(values["number"]),
        "lost": isinstance(values["lost"], str | None),
        "settings": isinstance(values["settings"], dict),
        "circumstances": isinstance(values["circumstances"], dict),
        "thermostats": _are_all(values["thermostats"], dict),
        "noise": isinstance(values["noise"], dict | None),
        "guards": isinstance(values["guards"], dict),
        "files": isinstance(values["files"], dict),
        "intervals": isinstance(values["intervals"], dict),
        "pbc": _are_all(periodic, bool) and len(periodic) == len("xyz"),
        "constraints": _are_all(values["constraints"], dict),
        "info": isinstance(values["info"], dict),
    }
    wrong = [name for name, right in checks.items() if not right]
    if wrong:
        raise TypeError(f"{wrong[0]} = {values[wrong[0]]!r}")


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _are_all(values: Any, kind: type) -> bool:
    return isinstance(values, list) and all(type(one) is kind for one in values)


def _plain_info(atoms: Atoms) -> dict[str, Any]:
    """Return what of ``atoms.info`` JSON can hold."""
    return {
        name: value
        for name, value in atoms.info.items()
        if isinstance(name, str) and isinstance(value, str | int | float | bool | None)
    }


def plain(value: Any) -> Any:
    """Return a value with arrays as lists and numpy's numbers as Python's."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value

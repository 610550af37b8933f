"""The folder of an ensemble: everything that workers share, on a common file system."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read, write
from ase.io.ulm import InvalidULMFileError

from trajcast_ase.dynamics.checkpoint import has_checkpoint, plain
from trajcast_ase.ensemble.plan import EnsembleError, Plan, Share
from trajcast_ase.files import write_atomically
from trajcast_ase.strict import parse_json

SHARES = "shares"
PART = ".part"


@dataclass(frozen=True, slots=True)
class Folder:
    """Names of the files of an ensemble.

    Attributes
    ----------
    path : Path
    """

    path: Path

    @property
    def plan(self) -> Path:
        """The plan, JSON."""
        return self.path / "plan.json"

    @property
    def model(self) -> Path:
        """A copy of the model."""
        return self.path / "model.trajcast"

    @property
    def starts(self) -> Path:
        """The structures, with velocities where they have them."""
        return self.path / "starts.traj"

    def checkpoint(self, share: Share) -> Path:
        """Return where the replicas of a share are kept."""
        return self._of_share(share, ".checkpoint")

    def progress(self, share: Share) -> Path:
        """Return where a worker says how far a share has come."""
        return self._of_share(share, ".progress")

    def stop(self, share: Share) -> Path:
        """Return the file that ends a share in order."""
        return self._of_share(share, ".stop")

    def end(self, share: Share) -> Path:
        """Return the file that says that a share has made all its strides."""
        return self._of_share(share, ".end")

    def trajectory(self, temperature_K: float, replica: int) -> Path:
        """Return the trajectory of a replica."""
        return self._of_temperature(temperature_K) / f"replica-{replica:04d}.traj"

    def log(self, temperature_K: float, replica: int) -> Path:
        """Return the log of a replica."""
        return self._of_temperature(temperature_K) / f"replica-{replica:04d}.log"

    def template(self, temperature_K: float, suffix: str) -> str:
        """Return the path of a replica's file as a format of its number."""
        folder = str(self._of_temperature(temperature_K))
        folder = folder.replace("{", "{{").replace("}", "}}")
        return f"{folder}/replica-{{replica:04d}}{suffix}"

    def make(self, plan: Plan) -> None:
        """Make the folders of a plan."""
        (self.path / SHARES).mkdir(parents=True, exist_ok=True)
        for temperature in plan.temperatures_K:
            self._of_temperature(temperature).mkdir(exist_ok=True)

    def check_fresh(self) -> None:
        """Raise FileExistsError where something else is in the folder."""
        ours = {self.model.name, self.starts.name, self.plan.name}
        ours |= {f"{name}{PART}" for name in ours}
        found = sorted(self.path.iterdir()) if self.path.exists() else []
        others = [one.name for one in found if one.name.lstrip(".") not in ours]
        others = [name for name in others if not name.endswith(".lock")]
        if others:
            raise FileExistsError(
                f"{self.path} holds {others[0]} and no {self.plan.name}; choose "
                "another folder for the ensemble"
            )

    def _of_share(self, share: Share, suffix: str) -> Path:
        return self.path / SHARES / f"share-{share.number:04d}{suffix}"

    def _of_temperature(self, temperature_K: float) -> Path:
        return self.path / f"{temperature_K:g}K"


def write_plan(folder: Folder, plan: Plan) -> None:
    """Write a plan, whole or not at all."""
    content = json.dumps(plan.to_plain(), indent=1) + "\n"
    write_atomically(folder.plan, content.encode())


def read_plan(folder: Folder) -> Plan:
    """Return the plan of a folder.

    Raises
    ------
    FileNotFoundError
        The folder holds no ensemble.
    EnsembleError
        The plan is damaged.
    """
    if not folder.plan.is_file():
        raise FileNotFoundError(
            f"{folder.path} holds no ensemble: there is no {folder.plan.name} in it"
        )
    try:
        return Plan.from_plain(parse_json(folder.plan.read_bytes()))
    except ValueError as error:
        raise EnsembleError(
            f"{folder.plan} is damaged or was edited ({error}); start anew in another "
            "folder"
        ) from error


def write_inputs(folder: Folder, model: bytes, starts: Sequence[Atoms]) -> None:
    """Write copies of model and starts, from which every worker begins."""
    write_atomically(folder.model, model)
    partial = folder.starts.with_name(f"{folder.starts.name}{PART}")
    write(partial, [bare(atoms) for atoms in starts], format="traj")
    partial.replace(folder.starts)


def checked_model(folder: Folder, plan: Plan) -> Path:
    """Return the model's file, which is that of the plan.

    Raises
    ------
    EnsembleError
        It is another one.
    """
    if hashlib.sha256(folder.model.read_bytes()).hexdigest() != plan.model_sha256:
        raise EnsembleError(
            f"{folder.model} is not the model that the ensemble began with; put it "
            "back, or start anew in another folder"
        )
    return folder.model


def read_start(folder: Folder, plan: Plan, index: int) -> Atoms:
    """Return a start.

    Raises
    ------
    EnsembleError
        The file is damaged, or holds another one.
    """
    wanted = plan.starts[index]
    try:
        atoms = read(folder.starts, index=index)
    except (OSError, ValueError, LookupError, InvalidULMFileError) as error:
        raise EnsembleError(
            f"{folder.starts} cannot be read ({error}); start anew in another folder"
        ) from error
    if not isinstance(atoms, Atoms) or identity(atoms) != wanted.sha256:
        raise EnsembleError(
            f"{folder.starts} does not hold the start {wanted.name} that the ensemble "
            "began with; start anew in another folder"
        )
    return atoms


def bare(atoms: Atoms) -> Atoms:
    """Return a copy without calculator, labels and arrays of the user's own."""
    return Atoms(
        numbers=atoms.numbers,
        positions=atoms.positions,
        momenta=atoms.get_momenta(),
        masses=atoms.get_masses() if atoms.has("masses") else None,
        cell=atoms.cell,
        pbc=atoms.pbc,
        constraint=atoms.constraints,
    )


def identity(atoms: Atoms) -> str:
    """Return the SHA-256 of what a run depends on."""
    arrays = {
        "numbers": atoms.numbers.astype("<i8"),
        "positions": atoms.positions.astype("<f8"),
        "momenta": atoms.get_momenta().astype("<f8"),
        "masses": atoms.get_masses().astype("<f8"),
        "cell": np.asarray(atoms.cell.array, dtype="<f8"),
        "pbc": np.asarray(atoms.pbc, dtype=bool),
    }
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name}{list(array.shape)}".encode())
        # Minus zero is written as it is, and means zero.
        digest.update(np.ascontiguousarray(array + 0).tobytes())
    constraints = [plain(one.todict()) for one in atoms.constraints]
    digest.update(json.dumps(constraints, sort_keys=True).encode())
    return digest.hexdigest()


def began(folder: Folder, share: Share) -> bool:
    """Return whether a share has a checkpoint to go on from."""
    return has_checkpoint(folder.checkpoint(share))


def clear_messages(folder: Folder, plan: Plan) -> None:
    """Remove what an earlier call told its workers, and they told it."""
    for share in plan.shares:
        folder.stop(share).unlink(missing_ok=True)
        folder.progress(share).unlink(missing_ok=True)


def write_json(path: Path, values: Any) -> None:
    """Write JSON, whole or not at all."""
    write_atomically(path, (json.dumps(values, indent=1) + "\n").encode())

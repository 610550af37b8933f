"""The model whose weights a distillation goes on from, which decides the network."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ase.data import chemical_symbols

from trajcast_ase.distill.fitting import Candidate
from trajcast_ase.files import write_atomically
from trajcast_ase.models.model_header import ModelHeader, parse_header, read_bytes
from trajcast_ase.models.model_zoo import find_model
from trajcast_ase.network.config import ForecasterConfig

COPY = "training/init.trajcast"
"""Of the model, in the folder of distill, from which trainings start."""
WHOLE = 1e-6
"""Of a stride, by which a horizon may miss a whole number of them."""


@dataclass(frozen=True, slots=True)
class Start:
    """A model to go on from.

    Attributes
    ----------
    given : str
        As the user named it.
    header : ModelHeader
    content : bytes
        Of its file.
    """

    given: str
    header: ModelHeader
    content: bytes

    @classmethod
    def read(cls, name_or_path: str | Path) -> Self:
        """Return the start of a bundled name or a file.

        Raises
        ------
        ModelFileError
            There is no such model, or its file is damaged.
        """
        source = find_model(name_or_path)
        content = read_bytes(source)
        return cls(str(name_or_path), parse_header(content, str(source)), content)

    def check_elements(self, numbers: Collection[int]) -> None:
        """Refuse a system of other elements.

        Raises
        ------
        ValueError
        """
        found = [chemical_symbols[number] for number in sorted(set(numbers))]
        if found != list(self.header.elements):
            raise ValueError(
                f"--init {self.given} knows {', '.join(self.header.elements)}, the "
                f"system has {', '.join(found)}; a training goes on with the same "
                "elements only, so leave --init out"
            )

    def grid(self, timestep_fs: float, frame_steps: int) -> tuple[float, int]:
        """Return a time step and steps per frame of which the horizon is a multiple.

        The time step is at most as long, and frames at most as far apart, as given.
        """
        horizon = self.header.horizon_fs
        n_steps = math.ceil(horizon / timestep_fs - WHOLE)
        fits = (k for k in range(min(frame_steps, n_steps), 0, -1) if n_steps % k == 0)
        return horizon / n_steps, next(fits)

    def candidate(self, stride_fs: float) -> Candidate:
        """Return horizon and network of the model.

        Raises
        ------
        ValueError
            The horizon is no multiple of the time between frames.
        """
        # What an older file does not name has its default.
        config = ForecasterConfig.from_dict(self.header.config)
        horizon = config.horizon_fs
        lag = round(horizon / stride_fs)
        if lag < 1 or abs(lag * stride_fs - horizon) > WHOLE * horizon:
            raise ValueError(
                f"--init {self.given} has a horizon of {horizon:g} fs, which is no "
                f"multiple of the {stride_fs:g} fs between frames; give trajectories "
                "with other frames, or leave --init out"
            )
        return Candidate(
            lag=lag,
            cutoff_A=config.cutoff,
            surroundings_A=config.surroundings_cutoff,
            n_channels=config.n_channels,
            n_layers=config.n_layers,
        )

    def copy_to(self, folder: Path) -> str:
        """Write the file to the folder of distill, and return its name there."""
        path = folder / COPY
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, self.content)
        return COPY

"""What an ensemble says: a row for each replica, and means with their errors."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from trajcast_ase.ensemble.folder import Folder, read_plan, write_json
from trajcast_ase.ensemble.plan import EnsembleError, Share
from trajcast_ase.ensemble.share import ShareEnd, read_end
from trajcast_ase.files import write_atomically
from trajcast_ase.trajectory import Frames

TABLE, SUMMARY = "ensemble.csv", "ensemble.json"
TIME_PS, KELVIN = "Time[ps]", "T[K]"
COLUMNS = (
    "replica",
    "temperature_K",
    "start",
    "strides",
    "frames",
    "mean_temperature_K",
    "std_temperature_K",
    "lost",
    "trajectory",
    "log",
)


@dataclass(frozen=True, slots=True)
class Replica:
    """One run of an ensemble.

    Attributes
    ----------
    number : int
    temperature_K : float, K
        Asked for.
    start : str
        Name of the structure that it began with.
    strides : int
        Made; fewer than asked for if it is lost.
    frames : int
        Rows of the log that the means are of.
    mean_temperature_K, std_temperature_K : float, K
        Of the kinetic temperature over those rows; NaN if there are none.
    lost : str or None
        Why the replica is lost.
    trajectory, log : Path
    """

    number: int
    temperature_K: float
    start: str
    strides: int
    frames: int
    mean_temperature_K: float
    std_temperature_K: float
    lost: str | None
    trajectory: Path
    log: Path


@dataclass(frozen=True, slots=True)
class Average:
    """A mean over the replicas of one temperature.

    Attributes
    ----------
    temperature_K : float, K
        Asked for.
    replicas : int
        That entered: those that are not lost.
    mean : array
        Of a number for each replica, or of an array of them.
    standard_error : array
        Scatter of the replicas over the root of their number; NaN for a single one.
    """

    temperature_K: float
    replicas: int
    mean: Float[np.ndarray, ...]
    standard_error: Float[np.ndarray, ...]


@dataclass(frozen=True, slots=True)
class EnsembleResult:
    """An ensemble that has ended.

    Attributes
    ----------
    folder : Path
    model : str
        Name of the model.
    skip_ps : float, ps
        Left out of the means at the start of each replica.
    replicas : tuple of Replica
        In the order of their numbers.
    """

    folder: Path
    model: str
    skip_ps: float
    replicas: tuple[Replica, ...]

    @property
    def temperatures(self) -> tuple[float, ...]:
        """Temperatures that were asked for, in the order of the plan, K."""
        return tuple(dict.fromkeys(one.temperature_K for one in self.replicas))

    @property
    def lost(self) -> tuple[Replica, ...]:
        """Replicas that failed."""
        return tuple(one for one in self.replicas if one.lost is not None)

    def kept(self, temperature_K: float) -> tuple[Replica, ...]:
        """Return the replicas of a temperature that are not lost.

        Raises
        ------
        EnsembleError
            The ensemble has no such temperature, or all its replicas are lost.
        """
        near = [t for t in self.temperatures if np.isclose(t, temperature_K)]
        if not near:
            known = ", ".join(f"{one:g}" for one in self.temperatures)
            raise EnsembleError(
                f"{self.folder} has no replicas at {temperature_K:g} K; its "
                f"temperatures are {known} K"
            )
        found = tuple(
            one
            for one in self.replicas
            if one.temperature_K == near[0] and one.lost is None
        )
        if not found:
            raise EnsembleError(
                f"all replicas of {self.folder} at {near[0]:g} K are lost"
            )
        return found

    def mean_temperatures(self) -> tuple[Average, ...]:
        """Return the mean kinetic temperature over replicas, K, for each temperature.

        Those at which all are lost are left out.
        """
        return tuple(
            _average(kelvin, [one.mean_temperature_K for one in kept])
            for kelvin in self.temperatures
            if (kept := self._left(kelvin))
        )

    def averages(
        self, observable: Callable[[Frames], ArrayLike]
    ) -> tuple[Average, ...]:
        """Return the mean of any observable over replicas, for each temperature.

        Parameters
        ----------
        observable : callable of Frames
            Returns a number or an array, of the same shape for all. It gets a
            replica's trajectory without its first :attr:`skip_ps`.
        """
        return tuple(
            _average(kelvin, [observable(self._frames(one)) for one in kept])
            for kelvin in self.temperatures
            if (kept := self._left(kelvin))
        )

    def _left(self, temperature_K: float) -> list[Replica]:
        return [
            one
            for one in self.replicas
            if one.temperature_K == temperature_K and one.lost is None
        ]

    def _frames(self, replica: Replica) -> Frames:
        from trajcast_ase.validation.inputs import read_run  # noqa: PLC0415  1 s

        return read_run(replica.trajectory, skip_ps=self.skip_ps).frames


def read_ensemble(folder: str | Path, *, skip_ps: float = 0.0) -> EnsembleResult:
    """Return the results of an ensemble.

    Parameters
    ----------
    folder : path
    skip_ps : float, ps
        Left out of all means, at the start of each replica.

    Raises
    ------
    FileNotFoundError
        The folder holds no ensemble, or a log is missing.
    EnsembleError
        A file is damaged, the ensemble has not ended, or nothing is left after
        `skip_ps`.
    """
    place = Folder(Path(folder))
    plan = read_plan(place)
    shares = plan.shares
    ends = [read_end(place, share) for share in shares]
    missing = [
        share
        for share, end in zip(shares, ends, strict=True)
        if end is None or end.strides < plan.strides
    ]
    if missing:
        raise EnsembleError(
            f"{folder} is not at its end: {len(missing)} of {len(shares)} shares are "
            f"not, the first is {missing[0]}; the command that began it goes on"
        )
    replicas = tuple(
        replica
        for share, end in zip(shares, ends, strict=True)
        if end is not None
        for replica in _replicas(
            place, plan.starts[share.start].name, share, end, skip_ps
        )
    )
    return EnsembleResult(Path(folder), plan.model, skip_ps, replicas)


def write_result(result: EnsembleResult) -> None:
    """Write ``ensemble.csv``, a row for each replica, and ``ensemble.json``."""
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    writer.writeheader()
    rows = [_row(result.folder, one) for one in result.replicas]
    writer.writerows(rows)
    write_atomically(result.folder / TABLE, table.getvalue().encode())
    means = [
        {
            "temperature_K": one.temperature_K,
            "replicas": one.replicas,
            "mean_temperature_K": _plain(float(one.mean)),
            "standard_error_K": _plain(float(one.standard_error)),
        }
        for one in result.mean_temperatures()
    ]
    summary = {
        "model": result.model,
        "skip_ps": result.skip_ps,
        "lost": [one.number for one in result.lost],
        "temperatures": means,
        "replicas": [{n: _plain(v) for n, v in row.items()} for row in rows],
    }
    write_json(result.folder / SUMMARY, summary)


def is_ensemble(path: Path) -> bool:
    """Return whether a path is the folder of an ensemble."""
    return Folder(path).plan.is_file()


def _replicas(
    place: Folder, start: str, share: Share, end: ShareEnd, skip_ps: float
) -> list[Replica]:
    """Return the replicas of a share that has ended."""
    lost = {one.number: one for one in end.lost}
    found = []
    for number in share.replicas:
        log = place.log(share.temperature_K, number)
        loss = lost.get(number)
        kelvins = _temperatures(log, skip_ps)
        if not len(kelvins) and loss is None:
            raise EnsembleError(
                f"{log} has no rows after the first {skip_ps:g} ps; skip less"
            )
        found.append(
            Replica(
                number=number,
                temperature_K=share.temperature_K,
                start=start,
                strides=end.strides if loss is None else loss.stride,
                frames=len(kelvins),
                mean_temperature_K=_mean(kelvins),
                std_temperature_K=float(np.std(kelvins)) if len(kelvins) else np.nan,
                lost=None if loss is None else loss.reason,
                trajectory=place.trajectory(share.temperature_K, number),
                log=log,
            )
        )
    return found


def _temperatures(log: Path, skip_ps: float) -> Float[np.ndarray, " rows"]:
    """Return the temperatures of a log after its first `skip_ps`, K."""
    header, *lines = log.read_text(encoding="utf-8").splitlines() or [""]
    names = header.split()
    try:
        time, kelvin = names.index(TIME_PS), names.index(KELVIN)
        rows = [line.split() for line in lines]
        values = np.array([[float(row[time]), float(row[kelvin])] for row in rows])
    except (ValueError, LookupError) as error:
        raise EnsembleError(f"{log} is no log of a replica ({error})") from error
    values = values.reshape(-1, 2)
    # Times in a log are rounded to a tenth of a femtosecond.
    return np.asarray(values[values[:, 0] >= skip_ps - 1e-6, 1])


def _average(temperature_K: float, values: list[Any]) -> Average:
    """Return mean and standard error over replicas."""
    array = np.array([np.asarray(one, dtype=float) for one in values])
    error = np.full(array.shape[1:], np.nan)
    if len(array) > 1:
        error = np.asarray(array.std(axis=0, ddof=1) / np.sqrt(len(array)))
    return Average(temperature_K, len(array), np.asarray(array.mean(axis=0)), error)


def _mean(values: Float[np.ndarray, " rows"]) -> float:
    return float(np.mean(values)) if len(values) else np.nan


def _row(folder: Path, replica: Replica) -> dict[str, Any]:
    """Return a row of the table, with paths from the folder on."""
    paths = {"trajectory": replica.trajectory, "log": replica.log}
    values: dict[str, Any] = {"replica": replica.number}
    for name in COLUMNS[1:]:
        values[name] = getattr(replica, name)
    return values | {
        n: path.relative_to(folder).as_posix() for n, path in paths.items()
    }


def _plain(value: Any) -> Any:
    """Return a value for JSON, which has no NaN."""
    return None if isinstance(value, float) and np.isnan(value) else value

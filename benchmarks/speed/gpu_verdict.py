"""What the tables of ``gpu.py`` and ``gpu_strides.py`` say, in a few sentences.

Whether Triton's kernels give what float64 gives and are faster than torch, whether
strides that stay on a device are those of the CPU and faster than the host's, and
whether ``backend="auto"`` may therefore take Triton on a card.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, str]

LARGEST_ERROR = 1e-5
"""Deviation from float64, relative to the largest output, that float32 explains."""
EXACT = "ieee"
"""Precision of Triton that is held to these limits; the others are choices."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A challenger against the one that is used today.

    Attributes
    ----------
    challenger, against : str
    cases : int
        That the challenger was given.
    compared, agree, repeat : int
        Of these, whose deviation is known, those within its limit, and those with the
        same bits in a second run.
    worst : float or None
        Largest deviation.
    limit : float
        That it is held to.
    pairs, faster : int
        Cases that both were timed in, and those in which the challenger took less time.
    speedup : tuple of least, median and largest, or None
        How many times as fast it was.
    problems : tuple of str
        What failed.
    """

    challenger: str
    against: str
    cases: int
    compared: int
    agree: int
    repeat: int
    worst: float | None
    limit: float
    pairs: int
    faster: int
    speedup: tuple[float, float, float] | None
    problems: tuple[str, ...]

    @property
    def is_right(self) -> bool:
        """Whether it was tried, and every case agreed, repeated and ran."""
        held = 0 < self.compared == self.agree
        return held and not self.problems and self.cases == self.repeat

    @property
    def is_faster(self) -> bool:
        """Whether it was faster in every case."""
        return 0 < self.pairs == self.faster

    def __str__(self) -> str:
        """Return one line, and one more for each problem."""
        if self.cases == 0:
            return f"{self.challenger}: nothing was measured"
        worst = "" if self.worst is None else f" (worst {self.worst:.1e})"
        text = (
            f"{self.challenger}: {self.agree} of {self.compared} cases agree to "
            f"{self.limit:g}{worst}, {self.repeat} repeat their bits"
        )
        if self.speedup is not None:
            least, median, most = self.speedup
            text += (
                f"; faster than {self.against} in {self.faster} of {self.pairs}, "
                f"{median:.2f} times ({least:.2f} to {most:.2f})"
            )
        return "\n".join([text, *(f"  failed: {one}" for one in self.problems)])


def network_verdict(rows: Sequence[Row], *, graph: bool) -> Verdict:
    """Return how Triton does in ``gpu.csv``, launched one by one or as a graph."""
    chosen = [row for row in rows if row["graph"] == str(graph)]
    ours = [row for row in chosen if row["contestant"].startswith(f"triton, {EXACT}")]
    theirs = [row for row in chosen if row["contestant"] == "reference"]
    name = f"triton, network as {'a graph' if graph else 'single launches'}"
    return _verdict(
        name,
        "torch",
        ours,
        theirs,
        keys=("system", "network", "part"),
    )


def strides_verdict(rows: Sequence[Row], *, engine: str) -> Verdict:
    """Return how Triton does in ``gpu_strides.csv``, by one engine."""
    chosen = [row for row in rows if row["engine"] == engine]
    ours = [row for row in chosen if row["backend"] == "triton"]
    theirs = [row for row in chosen if row["backend"] == "reference"]
    name = f"triton, whole strides, engine {engine}"
    return _of_strides(name, "torch", ours, theirs)


def engine_verdict(rows: Sequence[Row], *, backend: str) -> Verdict:
    """Return how strides on the device do in ``gpu_strides.csv``, by one backend."""
    chosen = [row for row in rows if row["backend"] == backend]
    ours = [row for row in chosen if row["engine"] == "device"]
    theirs = [row for row in chosen if row["engine"] == "host"]
    name = f"engine device, backend {backend}"
    return _of_strides(name, "the host's", ours, theirs)


def conclusion(verdicts: Sequence[Verdict]) -> str:
    """Return whether "auto" may take Triton, of which these are all verdicts."""
    if not any(one.cases for one in verdicts):
        return "triton was not measured: 'auto' stays without it"
    wrong = [one.challenger for one in verdicts if not one.is_right]
    if wrong:
        names = "; ".join(wrong)
        return f"triton is not shown to be right everywhere ({names}): not for 'auto'"
    slow = [one.challenger for one in verdicts if not one.is_faster]
    if slow:
        return f"triton is right, but not faster everywhere ({'; '.join(slow)})"
    return "triton is right and faster in every case: 'auto' may take it on such a card"


def judged(folder: Path) -> dict[str, Any]:
    """Return the verdicts on the tables of a folder, as plain values and as text."""
    network, strides = (_read(folder / f"{n}.csv") for n in ("gpu", "gpu_strides"))
    triton = [network_verdict(network, graph=graph) for graph in (False, True)]
    triton += [strides_verdict(strides, engine=one) for one in ("host", "device")]
    backends = sorted({row["backend"] for row in strides})
    engines = [engine_verdict(strides, backend=one) for one in backends]
    text = [*map(str, triton), *map(str, engines), conclusion(triton)]
    return {
        "verdicts": [asdict(one) for one in (*triton, *engines)],
        "says": "\n".join(text).splitlines(),
    }


def _read(path: Path) -> list[Row]:
    """Return the rows of a table; none where a part left none."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _of_strides(
    challenger: str, against: str, ours: Sequence[Row], theirs: Sequence[Row]
) -> Verdict:
    return _verdict(
        challenger,
        against,
        ours,
        theirs,
        keys=("system", "network", "replicas"),
    )


def _verdict(
    challenger: str,
    against: str,
    ours: Sequence[Row],
    theirs: Iterable[Row],
    *,
    keys: tuple[str, ...],
) -> Verdict:
    """Return a verdict; cases are rows that have the same `keys`."""
    ran = [row for row in ours if row["ms"]]
    deviations = [float(row["error"]) for row in ran if row["error"]]
    times = {tuple(row[k] for k in keys): row["ms"] for row in theirs if row["ms"]}
    ratios = [
        float(times[key]) / float(row["ms"])
        for row in ran
        if (key := tuple(row[k] for k in keys)) in times
    ]
    spread = (min(ratios), float(np.median(ratios)), max(ratios)) if ratios else None
    return Verdict(
        challenger,
        against,
        cases=len(ours),
        compared=len(deviations),
        agree=sum(one <= LARGEST_ERROR for one in deviations),
        repeat=sum(row["same_bits"] == "True" for row in ran),
        worst=max(deviations, default=None),
        limit=LARGEST_ERROR,
        pairs=len(ratios),
        faster=sum(one > 1.0 for one in ratios),
        speedup=spread,
        problems=tuple(
            f"{', '.join(row[k] for k in keys)}: {row['note']}"
            for row in ours
            if not row["ms"]
        ),
    )

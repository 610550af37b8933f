"""Pages of the studies: Markdown, tables, small figures, and what machine was used."""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from trajcast_ase import __version__
from trajcast_ase.analysis.blocks import Estimate, replica_average

LARGEST_PNG = 250_000
"""Bytes."""
RESOLUTIONS = (150, 130, 110, 90, 75, 60)
"""Dots per inch, tried in turn until a figure is small enough."""
PALETTE = 128
"""Colors of a small figure, which are a quarter of the bytes of millions."""
DIGITS = 5
CPU_INFO = Path("/proc/cpuinfo")


def machine(device: str = "cpu") -> dict[str, Any]:
    """Return what the speed of a run depends on."""
    lines = (
        CPU_INFO.read_text(encoding="utf-8").splitlines() if CPU_INFO.exists() else []
    )
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return {
        "processor": names[0] if names else platform.processor(),
        "gpu": torch.cuda.get_device_name() if device.startswith("cuda") else None,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "trajcast_ase": __version__,
    }


def describe_machine(content: dict[str, Any]) -> str:
    """Return a sentence about the machine of :func:`machine`."""
    where = (
        content["gpu"] or f"{content['threads']} thread(s) of {content['processor']}"
    )
    return f"{where}, torch {content['torch']}, trajcast_ase {content['trajcast_ase']}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the first column is text, the others are numbers."""
    marks = ["---", *["---:"] * (len(header) - 1)]
    lines = [header, marks, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_page(path: Path, sections: Sequence[str]) -> None:
    """Write the sections of a page, a blank line between them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join(section.strip() for section in sections)
    path.write_text(text + "\n", encoding="utf-8")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write results; arrays and floats keep five significant digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(plain(content), ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Return what :func:`write_json` wrote."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows with the same keys."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(plain(list(rows)))


def plain(value: Any) -> Any:
    """Return nested containers of plain, rounded numbers."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float | np.floating):
        return float(f"{float(value):.{DIGITS}g}")
    return value.item() if isinstance(value, np.generic) else value


def save_small(figure: Figure, path: Path) -> None:
    """Write a PNG below 250 kB, at the highest resolution that gives one.

    Raises
    ------
    ValueError
        It is larger at 60 dots per inch.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for dpi in RESOLUTIONS:
        figure.savefig(path, dpi=dpi)
        with Image.open(path) as image:
            few = image.convert("RGB").quantize(
                PALETTE, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
            )
        few.save(path, optimize=True)
        if path.stat().st_size < LARGEST_PNG:
            return
    raise ValueError(
        f"{path} has {path.stat().st_size} bytes at {RESOLUTIONS[-1]} dpi, the limit "
        f"is {LARGEST_PNG}; draw fewer points or panels"
    )


def mean_of(values: Sequence[float] | np.ndarray) -> Estimate:
    """Return mean and standard error of independent runs."""
    return replica_average(np.asarray(values, dtype=np.float64))


@dataclass(frozen=True, slots=True)
class Fit:
    """A power law, ``factor * x ** exponent``.

    Attributes
    ----------
    exponent, error : float
        With its standard error; nan for two points, which leave none.
    factor : float
    """

    exponent: float
    error: float
    factor: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the power law at `x`."""
        return np.asarray(
            self.factor * np.asarray(x, dtype=np.float64) ** self.exponent
        )


def power_law(x: Sequence[float], y: Sequence[float]) -> Fit:
    """Return the power law through points, by least squares of the logarithms.

    Raises
    ------
    ValueError
        Fewer than two points, or values that are not positive.
    """
    points = np.array([x, y], dtype=np.float64)
    if points.shape[1] < 2 or not (points > 0).all():
        raise ValueError(
            f"a power law needs two points of positive values or more, not {points}"
        )
    logs, values = np.log(points)
    slope, constant = np.polyfit(logs, values, 1)
    n_free = len(logs) - 2
    scatter = values - slope * logs - constant
    spread = np.square(logs - logs.mean()).sum()
    error = np.sqrt(np.square(scatter).sum() / n_free / spread) if n_free else np.nan
    return Fit(float(slope), float(error), float(np.exp(constant)))

"""What a training tells while it runs; as a CSV file, and TensorBoard on request."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Protocol

from trajcast_ase.files import write_atomically
from trajcast_ase.training.evaluate import ForecastErrors

COLUMNS = (
    "step",
    "loss",
    "learning_rate",
    "seconds_per_step",
    "displacement_mae_A",
    "velocity_mae_A_per_fs",
    "displacement_mae_percent",
    "velocity_mae_percent",
)


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """What a reporter learns after an optimiser step.

    Attributes
    ----------
    step, steps : int
    share : float
        Of the training that is done; it never falls, also where steps are planned anew.
    loss : float
        Mean over the steps since the last report.
    learning_rate : float
    seconds_per_step : float
    errors : ForecastErrors or None
        Validation errors, where this step was validated.
    left_s : float or None, s
        Until the end of a training by time; None where steps are given.
    """

    step: int
    steps: int
    share: float
    loss: float
    learning_rate: float
    seconds_per_step: float
    errors: ForecastErrors | None = None
    left_s: float | None = None


class Reporter(Protocol):
    """Receives the progress of a training."""

    def __call__(self, report: TrainingStep) -> None:
        """Show or store `report`."""


class CsvLog:
    """Appends one row per report to ``log.csv`` in `directory`."""

    def __init__(self, directory: Path, *, tensorboard: bool) -> None:
        self.path = directory / "log.csv"
        self.writer: Any = None
        directory.mkdir(parents=True, exist_ok=True)
        if tensorboard:
            self.writer = _tensorboard_writer(directory)

    def write(self, report: TrainingStep) -> None:
        """Append a row."""
        row = _row(report)
        new = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            if new:
                writer.writeheader()
            writer.writerow(row)
        if self.writer is not None:
            for name, value in row.items():
                if name != "step" and value != "":
                    self.writer.add_scalar(name, value, report.step)
            self.writer.flush()

    def cut_after(self, step: int) -> None:
        """Drop rows beyond `step`: a resumed run writes them again."""
        if not self.path.exists():
            return
        text = StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        writer.writerows(self._rows_until(step))
        write_atomically(self.path, text.getvalue().encode())

    def _rows_until(self, step: int) -> list[dict[str, str]]:
        try:
            with self.path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file, strict=True)
                rows = [row for row in reader if int(row["step"]) <= step]
            whole = all(row.keys() == set(COLUMNS) for row in rows)
        except (KeyError, TypeError, ValueError, csv.Error):
            whole = False
        if not whole:
            raise ValueError(
                f"{self.path} is no log of a training; restore it, or delete it to "
                "begin a new one"
            )
        return rows


def _row(report: TrainingStep) -> dict[str, Any]:
    errors = report.errors
    return {
        "step": report.step,
        "loss": report.loss,
        "learning_rate": report.learning_rate,
        "seconds_per_step": report.seconds_per_step,
        "displacement_mae_A": "" if errors is None else errors.displacement.mae,
        "velocity_mae_A_per_fs": "" if errors is None else errors.velocity.mae,
        "displacement_mae_percent": (
            "" if errors is None else 100 * errors.displacement.relative_mae
        ),
        "velocity_mae_percent": (
            "" if errors is None else 100 * errors.velocity.relative_mae
        ),
    }


def _tensorboard_writer(directory: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(
            "run.tensorboard = true needs tensorboard; install "
            "'trajcast-ase[tensorboard]'"
        ) from error
    return SummaryWriter(str(directory / "tensorboard"))

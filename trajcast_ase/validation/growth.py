"""How far runs part that started together: forecasts from MD, or MD from its twin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from ase.geometry import find_mic
from jaxtyping import Float, Int

from trajcast_ase.stride import ForecastModel, stride
from trajcast_ase.training.dataset import PairDataset
from trajcast_ase.training.pairs import Pairs
from trajcast_ase.trajectory import STRIDE_TOLERANCE_FS, Frames, TrajectoryError


@dataclass(frozen=True, slots=True)
class Growth:
    """Mean absolute differences per Cartesian component as time passes.

    Attributes
    ----------
    time_fs : (n_times,), fs
    displacement : (n_times,), Å
    velocity : (n_times,), Å/fs
    n_starts : int
        Runs averaged over.
    """

    time_fs: Float[np.ndarray, " times"]
    displacement: Float[np.ndarray, " times"]
    velocity: Float[np.ndarray, " times"]
    n_starts: int


def error_growth(
    model: ForecastModel, pairs: Pairs, *, n_strides: int = 40, n_starts: int = 20
) -> Growth:
    """Return the error of 1 to `n_strides` strides in a row against NVE frames.

    Parameters
    ----------
    model : ForecastModel
    pairs : Pairs
        Every pair of one run at the model's horizon.
    n_strides : int
    n_starts : int
        Evenly spaced over the run; strided together, as one batch.

    Raises
    ------
    TrajectoryError
        The run is shorter than `n_strides` strides.
    """
    frames, lag = pairs.frames, pairs.lag
    last = frames.n_frames - 1 - n_strides * lag
    if last < 0:
        raise TrajectoryError(
            f"{frames.source}: {frames.n_frames} frames hold "
            f"{(frames.n_frames - 1) // lag} strides in a row, but the growth over "
            f"{n_strides} was asked for; ask for fewer, 0 for none"
        )
    starts = np.unique(np.linspace(0, last, n_starts).round().astype(np.int64))
    dataset = PairDataset([Pairs(frames, starts, lag)])
    state = dataset.batch(np.arange(len(starts)), device=model.device).state
    model.check_elements(state.atomic_numbers)
    shape = (len(starts), -1, 3)
    rows = []
    with torch.no_grad():
        for k in range(1, n_strides + 1):
            state = stride(model, state)
            rows.append(
                _distance(
                    frames,
                    starts + k * lag,
                    state.positions.cpu().numpy().reshape(shape),
                    state.velocities.cpu().numpy().reshape(shape),
                )
            )
    times = np.arange(1, n_strides + 1) * pairs.horizon_fs
    moved, changed = np.array(rows).T
    return Growth(times, moved, changed, n_starts=len(starts))


def divergence(frames: Frames, twin: Frames) -> Growth:
    """Return how far a run and its twin, which started close by, have parted.

    Parameters
    ----------
    frames, twin : Frames
        With frames at the same times.

    Raises
    ------
    TrajectoryError
        Other atoms or another stride, or starts that lie apart.
    """
    same_atoms = np.array_equal(frames.atomic_numbers, twin.atomic_numbers)
    if not same_atoms or abs(frames.stride_fs - twin.stride_fs) > STRIDE_TOLERANCE_FS:
        raise TrajectoryError(
            f"{twin.source} has other atoms or another stride than {frames.source}; "
            "give a run from nearly the same start, written alike"
        )
    n_times = min(frames.n_frames, twin.n_frames)
    rows = [
        _distance(frames, np.array([k]), twin.positions[k : k + 1], twin.velocities[k])
        for k in range(n_times)
    ]
    moved, changed = np.array(rows).T
    typical = float(np.abs(frames.positions[1] - frames.positions[0]).mean())
    if moved[0] > typical:
        raise TrajectoryError(
            f"{twin.source} starts {moved[0]:.3g} Å from {frames.source} on average; a "
            "twin starts at nearly the same positions"
        )
    return Growth(np.arange(n_times) * frames.stride_fs, moved, changed, n_starts=1)


def _distance(
    frames: Frames,
    index: Int[np.ndarray, " runs"],
    positions: Float[np.ndarray, "runs atoms 3"],
    velocities: Float[np.ndarray, ...],
) -> tuple[float, float]:
    """Return the mean absolute differences from frames, by the shortest vectors."""
    moved = positions - frames.positions[index]
    if frames.pbc.any():
        moved, _ = find_mic(moved.reshape(-1, 3), frames.cell, frames.pbc)
    changed = velocities - frames.velocities[index]
    return float(np.abs(moved).mean()), float(np.abs(changed).mean())

"""Frames to training pairs: a state, its displacement and its velocity a horizon on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase.geometry import find_mic
from jaxtyping import Float, Int

from trajcast_ase.training.motion import check_motion
from trajcast_ase.trajectory import (
    STRIDE_TOLERANCE_FS,
    Frames,
    TrajectoryError,
)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of one run: frame ``starts[k]`` and the frame `lag` later.

    Attributes
    ----------
    frames : Frames
    starts : (n_pairs,) int64
    lag : int
        Frames per horizon.
    """

    frames: Frames
    starts: Int[np.ndarray, " pairs"]
    lag: int

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def horizon_fs(self) -> float:
        """Time between the two frames of a pair, fs."""
        return self.lag * self.frames.stride_fs

    def displacements(
        self, starts: Int[np.ndarray, " rows"]
    ) -> Float[np.ndarray, "rows atoms 3"]:
        """Return the shortest displacements over the horizon, Å.

        Right for wrapped and unwrapped positions alike as long as no atom moves
        half a cell in one horizon.
        """
        frames = self.frames
        later = frames.positions[starts + self.lag]
        moved: np.ndarray = later - frames.positions[starts]
        if not frames.pbc.any():
            return moved
        shortest, _ = find_mic(moved.reshape(-1, 3), frames.cell, frames.pbc)
        return np.asarray(shortest).reshape(moved.shape)


def make_pairs(
    frames: Frames, horizon_fs: float, *, checks_motion: bool = True
) -> Pairs:
    """Return every pair of `frames` that is `horizon_fs` apart.

    Pairs between whose frames a thermostat acted are left out, in files that tell it.

    Parameters
    ----------
    frames : Frames
    horizon_fs : float, fs
    checks_motion : bool
        Whether displacements must fit the velocities (:mod:`.motion`).

    Raises
    ------
    TrajectoryError
        The horizon is not a whole number of strides, the run is shorter than it, a
        thermostat acted in each pair, or displacements are not those of velocities.
    """
    lag = round(horizon_fs / frames.stride_fs)
    if lag < 1 or abs(lag * frames.stride_fs - horizon_fs) > STRIDE_TOLERANCE_FS:
        raise TrajectoryError(
            f"{frames.source}: a horizon of {horizon_fs:g} fs is not a whole number of "
            f"frame strides of {frames.stride_fs:g} fs; choose a multiple of the "
            "stride or write frames at the horizon (trajcast run: --interval 1)"
        )
    if frames.n_frames <= lag:
        raise TrajectoryError(
            f"{frames.source}: {frames.n_frames} frames at {frames.stride_fs:g} fs are "
            f"too few for one pair at {horizon_fs:g} fs"
        )
    if checks_motion:
        check_motion(frames)
    starts = _undisturbed(frames, lag)
    if len(starts) == 0:
        raise TrajectoryError(
            f"{frames.source}: a thermostat acted between the frames of every pair at "
            f"{horizon_fs:g} fs; take a run at constant energy, or a shorter horizon"
        )
    return Pairs(frames, starts, lag)


def _undisturbed(frames: Frames, lag: int) -> Int[np.ndarray, " pairs"]:
    """Return the frames after which no thermostat acted for `lag` frames."""
    starts = np.arange(frames.n_frames - lag)
    if frames.kicks is None:
        return starts
    before = np.searchsorted(frames.kicks, starts, side="right")
    after = np.searchsorted(frames.kicks, starts + lag, side="right")
    return np.asarray(starts[before == after])


def split_in_time(pairs: Pairs, validation_fraction: float) -> tuple[Pairs, Pairs]:
    """Return training pairs and, from the end of the run, validation pairs.

    No frame serves in both: the pairs that straddle the cut are dropped.

    Raises
    ------
    TrajectoryError
        One of the two parts would be empty.
    """
    n_early = round(len(pairs) * (1.0 - validation_fraction))
    early, late = pairs.starts[:n_early], pairs.starts[n_early:]
    if len(late):
        early = early[early + pairs.lag < late[0]]
    if len(early) == 0 or len(late) == 0:
        raise TrajectoryError(
            f"{pairs.frames.source}: {len(pairs)} pairs cannot be split with "
            f"validation_fraction = {validation_fraction:g}; use a longer run or give "
            "validation files"
        )
    return replace(pairs, starts=early), replace(pairs, starts=late)


def thin(pairs: Sequence[Pairs], n_pairs: int) -> list[Pairs]:
    """Return about `n_pairs` pairs, evenly spaced over all runs."""
    total = sum(len(part) for part in pairs)
    if n_pairs >= total:
        return list(pairs)
    chosen = np.unique(np.linspace(0, total - 1, n_pairs).round().astype(np.int64))
    ends = np.cumsum([len(part) for part in pairs])
    kept = []
    for part, end in zip(pairs, ends, strict=True):
        local = chosen[(chosen >= end - len(part)) & (chosen < end)] - (end - len(part))
        kept.append(replace(part, starts=part.starts[local]))
    return [part for part in kept if len(part)]


def content_hash(pairs: Sequence[Pairs]) -> str:
    """Return a SHA-256 of the frames and of the choice of pairs."""
    digest = hashlib.sha256()
    for part in pairs:
        frames = part.frames
        for array in (
            frames.positions,
            frames.velocities,
            frames.atomic_numbers,
            frames.masses,
            frames.cell,
            frames.pbc,
            part.starts,
        ):
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update(str(part.lag).encode())
    return digest.hexdigest()

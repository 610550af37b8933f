r"""Whether atoms move as their velocities say, from one frame to the next.

The displacement :math:`d` from frame :math:`k` to the next is held against the
trapezoid of the velocities, :math:`m = (v_k + v_{k+1})\,\Delta t / 2`. Its mismatch
:math:`|d - m|^2 / (|d|^2 + |m|^2)` is 1 for velocities of other atoms; for their own it
is below 0.01 with ten frames to a vibration, but reaches 1 with one or two. There the
two are still correlated, if the sum :math:`v_{k-1} + v_{k+2}` may help the trapezoid:
by 0.3 at least for isolated water every 5 to 14 fs and silicon of quartz every 30 fs.

The size is held against a sharper sum, :math:`s = (13 a - b) / 12` with the sums
:math:`a` and :math:`b` of the two velocities within and of the two around: the slopes
:math:`d \cdot s / s^2` and :math:`d^2 / d \cdot s` are 1 for a motion that frames
resolve, and have 1 between them for one that they do not, unless velocities are in
other units or the time between frames is another.

Limits are those that all reference runs keep at their horizons of 5, 7 and 30 fs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols
from ase.geometry import find_mic
from jaxtyping import Float, Int

from trajcast_ase.trajectory import Frames, TrajectoryError

VECTORS_AT_A_TIME = 200_000
"""The images that ASE looks at take 27 times their memory."""
LARGEST_JUMP = 8.0
"""Of a displacement from the trapezoid, in rms distances covered; seen: 2.7."""
LEAST_CORRELATION = 0.2
"""Of displacements with velocities; seen: 0.29, and 0.05 for those of others."""
ENOUGH = 600
"""Components of displacements for a correlation that means something."""
SLOW, RESOLVED = 0.9, 0.98
"""Correlations of velocities with the next ones, and of displacements with velocities,
of motion that is resolved. A vibration whose period is the stride looks slow, too."""
LARGEST_MISMATCH = 0.1
"""Of a motion that is resolved; seen: 0.003."""
LARGEST_STEP, SPREADS = 0.1, 8.0
"""Mismatch of one step above the median: at least, and in units of the distance
between the median and the 90th percentile; seen: 5.8."""
SCALES = ((RESOLVED, SLOW, 1.05), (0.5, -1.0, 1.5), (LEAST_CORRELATION, -1.0, 5.0))
"""Least correlations, of displacements with s and of velocities with the next ones,
and the largest factor between displacements and s there; seen: 1.002, 1.13, 1.13."""
FINER = (
    "correct the velocities, or write frames at a divisor of the horizon if the "
    "horizon is far beyond the fastest vibration (data.check_motion = false of a "
    "training lets them pass)"
)


@dataclass(frozen=True, slots=True)
class _Motion:
    """Sums over the three axes of displacements and velocities.

    Attributes
    ----------
    moved, covered : (n_steps, n_atoms), Å²
        Squares of displacement and trapezoid.
    product : (n_steps, n_atoms), Å²
        Of the two.
    fit : (6, n_atoms), Å²
        Sums over the inner steps of d², a², b², ab, da and db, with d the displacement,
        a the trapezoid and b that of the two velocities around.
    """

    moved: Float[np.ndarray, "steps atoms"]
    covered: Float[np.ndarray, "steps atoms"]
    product: Float[np.ndarray, "steps atoms"]
    fit: Float[np.ndarray, "6 atoms"]

    @property
    def apart(self) -> Float[np.ndarray, "steps atoms"]:
        """Square of the difference of displacement and trapezoid."""
        apart = self.moved + self.covered - 2.0 * self.product
        return np.asarray(np.maximum(apart, 0.0))


def check_motion(frames: Frames) -> None:
    """Refuse frames whose displacements and velocities are not of one motion.

    Parameters
    ----------
    frames : Frames

    Raises
    ------
    TrajectoryError
        An atom or a whole frame jumps, frames are missing or repeated, or velocities
        are zero or belong to other atoms or times. The text names frame and atom.
    """
    motion = _motion(frames)
    _check_rest(frames, motion)
    _check_fixed(frames)
    _check_scale(frames, motion)
    _check_jumps(frames, motion)
    _check_steps(frames, motion)
    _check_owners(frames, motion)


def _motion(frames: Frames) -> _Motion:
    """Return sums of displacements, by the shortest vectors, beside trapezoids."""
    n_steps, n_atoms = frames.n_frames - 1, frames.positions.shape[1]
    per_chunk = max(1, VECTORS_AT_A_TIME // n_atoms)
    rows, fit = [], np.zeros((6, n_atoms))
    for start in range(0, n_steps, per_chunk):
        steps = np.arange(start, min(start + per_chunk, n_steps))
        moved = _displacements(frames, steps)
        covered = _trapezoids(frames, steps, steps + 1)
        squares = [(moved, moved), (covered, covered), (moved, covered)]
        rows.append([np.einsum("fac,fac->fa", *pair) for pair in squares])
        inside = (steps > 0) & (steps < n_steps - 1)
        d, a = moved[inside], covered[inside]
        b = _trapezoids(frames, steps[inside] - 1, steps[inside] + 2)
        products = [(d, d), (a, a), (b, b), (a, b), (d, a), (d, b)]
        fit += np.stack([np.einsum("fac,fac->a", *pair) for pair in products])
    moved, covered, product = (np.concatenate(part) for part in zip(*rows, strict=True))
    return _Motion(moved, covered, product, fit)


def _displacements(
    frames: Frames, steps: Int[np.ndarray, " steps"]
) -> Float[np.ndarray, "steps atoms 3"]:
    moved = np.asarray(frames.positions[steps + 1] - frames.positions[steps])
    if not frames.pbc.any():
        return moved
    shortest, _ = find_mic(moved.reshape(-1, 3), frames.cell, frames.pbc)
    return np.asarray(shortest).reshape(moved.shape)


def _trapezoids(
    frames: Frames, early: Int[np.ndarray, " steps"], late: Int[np.ndarray, " steps"]
) -> Float[np.ndarray, "steps atoms 3"]:
    velocities = frames.velocities
    return np.asarray(0.5 * frames.stride_fs * (velocities[early] + velocities[late]))


def _check_rest(frames: Frames, motion: _Motion) -> None:
    """Refuse steps without motion, and frames without velocities."""
    still = np.flatnonzero(~frames.velocities.any(axis=(1, 2)))
    # A run may start from rest, but comes to rest nowhere else.
    if len(still) > 1 or still.any():
        raise TrajectoryError(
            f"{frames.source}: all velocities of frame {still[-1]} are zero; write "
            "them during the MD, or cut the frame"
        )
    resting = ~motion.moved.any(axis=1)
    if resting.any():
        first = int(np.argmax(resting))
        raise TrajectoryError(
            f"{frames.source}: no atom moves from frame {first} to {first + 1}; the "
            "frame is repeated, so leave one of the two out"
        )


def _check_fixed(frames: Frames) -> None:
    """Refuse atoms that are held: they take up momenta, which forecasts conserve."""
    fixed = np.flatnonzero(frames.fixed)
    if len(fixed):
        raise TrajectoryError(
            f"{frames.source}: {len(fixed)} atoms rest in every frame, atom {fixed[0]} "
            "the first, as under FixAtoms; they take up the momentum that a forecast "
            "conserves, so train on runs in which all atoms move"
        )


def _check_scale(frames: Frames, motion: _Motion) -> None:
    """Refuse displacements of another size than velocities and stride make."""
    for number in np.unique(frames.atomic_numbers):
        atoms = frames.atomic_numbers == number
        if 3 * (frames.n_frames - 3) * atoms.sum() < ENOUGH:
            continue
        moved, inner, outer, both, by_inner, by_outer = motion.fit[:, atoms].sum(axis=1)
        product = (13.0 * by_inner - by_outer) / 12.0
        square = (169.0 * inner - 26.0 * both + outer) / 144.0
        if product <= 0 or moved <= 0 or square <= 0:
            continue
        velocities = frames.velocities[:, atoms]
        lasting = np.vdot(velocities[1:], velocities[:-1]) / np.vdot(
            velocities, velocities
        )
        least, most = product / square, moved / product
        fits = np.sqrt(least / most)
        for resolved, slow, factor in SCALES:
            if fits < resolved or lasting < slow:
                continue
            if least > factor or most < 1.0 / factor:
                raise _wrong_scale(frames, chemical_symbols[number], least, factor)
            break


def _wrong_scale(
    frames: Frames, symbol: str, slope: float, factor: float
) -> TrajectoryError:
    stride = frames.stride_fs
    return TrajectoryError(
        f"{frames.source}: displacements of {symbol} are {slope:.3g} times those of "
        f"its velocities over {stride:g} fs (limits {1 / factor:.2g} to {factor:g}); "
        f"either the time between frames is {slope * stride:.3g} fs, or the velocities "
        "are in other units: give the right stride_fs (--stride), or units of a LAMMPS "
        "dump (lammps_units, --lammps-units), or multiply the velocities by "
        f"{slope:.4g}"
    )


def _check_jumps(frames: Frames, motion: _Motion) -> None:
    """Refuse displacements far from what the velocities of an element cover."""
    # Of the median over time: a few wrong velocities must not set the scale.
    every = max(1, frames.n_frames // 1000)
    squares = np.median((frames.velocities[::every] ** 2).sum(axis=2), axis=0)
    scale = np.empty(len(squares))
    for number in np.unique(frames.atomic_numbers):
        chosen = frames.atomic_numbers == number
        scale[chosen] = frames.stride_fs * np.sqrt(squares[chosen].mean())
    distance = np.sqrt(motion.apart)
    over = distance - LARGEST_JUMP * scale
    if (over > 0).any():
        step, atom = np.unravel_index(int(np.argmax(over)), over.shape)
        raise TrajectoryError(
            f"{frames.source}: from frame {step} to {step + 1}, {_name(frames, atom)} "
            f"moves {np.sqrt(motion.moved[step, atom]):.3g} Å, "
            f"{distance[step, atom]:.3g} Å from where its velocities lead (limit "
            f"{LARGEST_JUMP * scale[atom]:.3g} Å); the atom jumps, or the cell is "
            "another: cut the trajectory there, or write unwrapped positions"
        )


def _check_steps(frames: Frames, motion: _Motion) -> None:
    """Refuse single steps that agree far worse than the others."""
    mismatch = motion.apart.sum(axis=1) / (motion.moved + motion.covered).sum(axis=1)
    median, upper = np.quantile(mismatch, (0.5, 0.9))
    limit = median + max(LARGEST_STEP, SPREADS * (upper - median))
    step = int(np.argmax(mismatch))
    if mismatch[step] > limit:
        raise TrajectoryError(
            f"{frames.source}: the motion from frame {step} to {step + 1} is not that "
            f"of the velocities (mismatch {mismatch[step]:.2g}, limit {limit:.2g}); "
            "frames are missing there, another run begins, or velocities are wrong: "
            "cut the trajectory there"
        )


def _check_owners(frames: Frames, motion: _Motion) -> None:
    """Refuse velocities of an element, or of one atom, that belong to others."""
    for number in np.unique(frames.atomic_numbers):
        atoms = np.flatnonzero(frames.atomic_numbers == number)
        symbol = chemical_symbols[number]
        element = motion.fit[:, atoms].sum(axis=1, keepdims=True)
        fits = _correlation(np.concatenate([element, motion.fit[:, atoms]], axis=1))
        n_values = 3 * (frames.n_frames - 3) * np.array([len(atoms), *len(atoms) * [1]])
        strange = (fits < LEAST_CORRELATION) & (n_values >= ENOUGH)
        if strange.any():
            place = int(np.argmax(strange))
            whose = _name(frames, atoms[place - 1]) if place else symbol
            raise TrajectoryError(
                f"{frames.source}: displacements of {whose} have a correlation of "
                f"{fits[place]:.2g} with the velocities, no more than by chance (limit "
                f"{LEAST_CORRELATION:g}); these belong to other atoms or times, or "
                f"{FINER}"
            )
        velocities = frames.velocities[:, atoms]
        lasting = np.vdot(velocities[1:], velocities[:-1])
        slow = lasting > SLOW * np.vdot(velocities, velocities)
        if not (slow and np.median(fits[1:]) > RESOLVED):
            continue
        apart = motion.apart[:, atoms].sum(axis=0)
        size = (motion.moved + motion.covered)[:, atoms].sum(axis=0)
        mismatch = apart / np.where(size > 0, size, 1.0)
        if mismatch.max() > LARGEST_MISMATCH:
            place = int(np.argmax(mismatch))
            raise TrajectoryError(
                f"{frames.source}: displacements of {_name(frames, atoms[place])} are "
                f"not those of its velocities (mismatch {mismatch[place]:.2g}, limit "
                f"{LARGEST_MISMATCH:g}); these belong to another atom, or the time "
                f"between frames is not {frames.stride_fs:g} fs, or {FINER}"
            )


def _correlation(fit: Float[np.ndarray, "6 n"]) -> Float[np.ndarray, " n"]:
    """Return the multiple correlation of displacements with two sums of velocities."""
    moved, inner, outer, both, by_inner, by_outer = fit
    determinant = inner * outer - both**2
    explained = (
        by_inner**2 * outer - 2.0 * by_inner * by_outer * both + by_outer**2 * inner
    )
    # Sums that are multiples of each other, as of one slow mode, explain as one.
    alone = determinant <= 1e-9 * inner * outer  # rounding
    explained = np.where(alone, by_inner**2, explained)
    size = moved * np.where(alone, inner, determinant)
    squared = explained / np.where(size > 0, size, 1.0)
    squared = np.where(size > 0, np.clip(squared, 0.0, 1.0), 1.0 * (moved == 0))
    return np.asarray(np.sqrt(squared))


def _name(frames: Frames, atom: int | np.integer) -> str:
    return f"atom {int(atom)} ({chemical_symbols[frames.atomic_numbers[atom]]})"

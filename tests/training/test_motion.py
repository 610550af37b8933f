"""Displacements and velocities of one motion pass, all else is refused."""

from dataclasses import replace

import numpy as np
import pytest

from trajcast_ase.training.motion import check_motion
from trajcast_ase.training.pairs import make_pairs
from trajcast_ase.trajectory import Frames, TrajectoryError

N_FRAMES, N_ATOMS = 120, 12


def thermal(stride_fs: float, seed: int = 0) -> Frames:
    """Return atoms with many modes each, the fastest of period 9 fs, in a box."""
    rng = np.random.default_rng(seed)
    frequencies = rng.uniform(0.05, 0.7, (N_ATOMS, 6))
    phases = rng.uniform(0.0, 2 * np.pi, (N_ATOMS, 6, 3))
    speeds = 0.01 * rng.normal(size=(N_ATOMS, 6, 3))
    time = stride_fs * np.arange(N_FRAMES)[:, None, None, None]
    angles = frequencies[..., None] * time + phases
    rest = 10.0 * rng.random((N_ATOMS, 3))
    positions = rest + (speeds / frequencies[..., None] * np.sin(angles)).sum(axis=2)
    return Frames(
        positions=positions % 10.0,
        velocities=(speeds * np.cos(angles)).sum(axis=2),
        atomic_numbers=np.array([1, 8] * (N_ATOMS // 2)),
        masses=np.array([1.008, 15.999] * (N_ATOMS // 2)),
        cell=10.0 * np.eye(3),
        pbc=np.ones(3, dtype=bool),
        stride_fs=stride_fs,
        source="memory",
    )


@pytest.mark.parametrize("stride_fs", [0.5, 1.0, 2.0, 5.0, 7.0, 9.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_motion_passes_at_any_stride(stride_fs, seed):
    check_motion(thermal(stride_fs, seed))


def edited(stride_fs: float, name: str) -> Frames:
    """Return frames with one fault."""
    frames = thermal(stride_fs)
    positions, velocities = frames.positions.copy(), frames.velocities.copy()
    keep = np.arange(N_FRAMES)
    match name:
        case "atom":
            positions[60:, 5] += 3.0
        case "frame":
            positions[60] += 4.5
        case "swapped":
            velocities = velocities[:, [2, 3, 0, 1, *range(4, N_ATOMS)]]
        case "shuffled":
            velocities = np.random.default_rng(1).permuted(velocities, axis=1)
        case "zero":
            velocities[:] = 0.0
        case "gap":
            keep = np.delete(keep, range(60, 63))
        case "repeated":
            keep = np.insert(keep, 60, 60)
        case "reversed":
            velocities *= -1.0
        case "units":
            velocities *= 1.0 / 48.9
    return replace(frames, positions=positions[keep], velocities=velocities[keep])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("atom", r"frame 59 to 60, atom 5 \(O\) moves 5.* Å .*limit"),
        ("frame", r"frame (59 to 60|60 to 61), atom"),
        ("swapped", "atom 0|atom 2|displacements of H"),
        ("shuffled", "displacements of"),
        ("zero", "velocities of frame 119 are zero"),
        ("gap", "frame 59 to 60 is not that of the velocities"),
        ("repeated", "no atom moves from frame 60 to 61"),
        ("reversed", "not those of its velocities"),
        ("units", r"of H are 48\.9 times those of its velocities over 0\.5 fs"),
    ],
)
def test_data_that_cannot_be_pairs_are_refused(name, message):
    with pytest.raises(TrajectoryError, match=message) as caught:
        make_pairs(edited(0.5, name), 5.0)
    assert "memory" in str(caught.value)


def test_fixed_atoms_are_refused():
    frames = thermal(0.5)
    positions, velocities = frames.positions.copy(), frames.velocities.copy()
    positions[:, 3:5], velocities[:, 3:5] = positions[0, 3:5], 0.0
    held = replace(frames, positions=positions, velocities=velocities)
    with pytest.raises(TrajectoryError, match=r"2 atoms rest .* atom 3 the first"):
        make_pairs(held, 5.0)


@pytest.mark.parametrize("name", ["atom", "frame", "zero", "repeated", "shuffled"])
def test_gross_faults_are_seen_at_a_long_stride(name):
    with pytest.raises(TrajectoryError):
        make_pairs(edited(7.0, name), 7.0)


@pytest.mark.parametrize(("stride_fs", "factor"), [(0.5, 1.1), (1.0, 0.9), (4.0, 2.0)])
@pytest.mark.parametrize("seed", range(3))
def test_a_wrong_time_between_frames_is_told(stride_fs, factor, seed):
    frames = thermal(stride_fs, seed)
    lie = replace(frames, stride_fs=stride_fs * factor)
    with pytest.raises(TrajectoryError, match="the time between frames is") as caught:
        check_motion(lie)
    if stride_fs < 4.0:
        told = str(caught.value).split("between frames is ")[1].split(" fs")[0]
        assert float(told) == pytest.approx(stride_fs, rel=0.02)


@pytest.mark.parametrize("stride_fs", [2.0, 7.0])
@pytest.mark.parametrize("factor", [1e-3, 0.0102, 98.2, 1004.0])
def test_velocities_in_other_units_are_refused_at_any_stride(stride_fs, factor):
    frames = thermal(stride_fs)
    with pytest.raises(TrajectoryError, match="velocities are in other units"):
        check_motion(replace(frames, velocities=factor * frames.velocities))


def test_a_run_that_starts_from_rest_passes():
    frames = thermal(0.5)
    time = frames.stride_fs * np.arange(N_FRAMES)[:, None, None]
    start, pull = frames.positions[0], 1e-4 * frames.velocities[0]
    check_motion(
        replace(
            frames,
            positions=start + pull * time**2 / 2,
            velocities=pull * time,
        )
    )


def test_the_check_can_be_left_out():
    frames = edited(7.0, "shuffled")
    with pytest.raises(TrajectoryError, match=r"check_motion = false"):
        make_pairs(frames, 7.0)
    assert len(make_pairs(frames, 7.0, checks_motion=False).starts) == N_FRAMES - 1

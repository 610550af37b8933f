"""Damaged trajectory files: each must give the documented error or a sound result.

``python benchmarks/hostile/trajectories.py --number 10000 --seed 1`` damages small
files of every format and prints, for each, how many gave a ``TrajectoryError``, frames,
or anything else, with the longest time of the processor. It exits with 1 if anything
else came, or a file took longer than is promised.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from ase import Atoms
from ase.io import Trajectory, write

from trajcast_ase.trajectory import Frames, TrajectoryError, read_frames
from trajcast_ase.units import FS

N_FRAMES, STRIDE_FS = 8, 2.0
NUMBERS, MASSES = np.array([8, 1, 1]), np.array([15.999, 1.008, 1.008])
CELL = 9.0 * np.eye(3)
SUFFIXES = {"hdf5": ".h5", "traj": ".traj", "extxyz": ".xyz", "dump": ".lammpstrj"}
LIMIT_S = 2.0
"""Time of the processor that reading a small file may take."""
STRANGE = (b"nan", b"1e400", b"-", b"0", b"99999999999", b"1.5", b"x", b"")


def motion() -> tuple[np.ndarray, np.ndarray]:
    """Return positions (Å) and velocities (Å/fs) of three harmonic atoms."""
    rng = np.random.default_rng(0)
    rest = np.array([[4.0, 4.0, 4.0], [4.9, 4.2, 4.0], [3.8, 4.9, 4.1]])
    amplitudes, phases = rng.normal(0.0, 0.05, (3, 3)), rng.uniform(0.0, 6.0, (3, 3))
    angles = 0.2 * STRIDE_FS * np.arange(N_FRAMES)[:, None, None] + phases
    return rest + amplitudes * np.sin(angles), 0.2 * amplitudes * np.cos(angles)


def write_original(kind: str, path: Path) -> Path:
    """Write the same small run in a format."""
    positions, velocities = motion()
    if kind == "hdf5":
        with h5py.File(path, "w") as file:
            file.attrs["format"] = "trajcast-md"
            file["numbers"], file["masses"] = NUMBERS, MASSES
            file["cell"], file["pbc"] = CELL, np.ones(3, dtype=bool)
            for name, values in (("positions", positions), ("velocities", velocities)):
                file.create_dataset(name, data=values, chunks=(4, 3, 3))
            file["time"] = STRIDE_FS * np.arange(N_FRAMES)
    elif kind == "dump":
        path.write_text(dump_text(positions, velocities), encoding="ascii")
    else:
        images = []
        for k, (x, v) in enumerate(zip(positions, velocities, strict=True)):
            atoms = Atoms(NUMBERS, x, masses=MASSES, cell=CELL, pbc=True)
            atoms.set_momenta(v / FS * MASSES[:, None])
            atoms.info["time_fs"] = STRIDE_FS * k
            images.append(atoms)
        if kind == "extxyz":
            write(path, images, format="extxyz")
        else:
            with Trajectory(str(path), "w") as trajectory:
                for atoms in images:
                    trajectory.write(atoms)
    return path


def dump_text(
    positions: np.ndarray, velocities: np.ndarray, units: str | None = "real"
) -> str:
    """Return a LAMMPS dump with elements, and with its units if `units` is given."""
    lines = [] if units is None else ["ITEM: UNITS", units]
    for step, (x, v) in enumerate(zip(positions, velocities, strict=True)):
        lines += ["ITEM: TIMESTEP", f"{4 * step}", "ITEM: NUMBER OF ATOMS", f"{len(x)}"]
        lines += ["ITEM: BOX BOUNDS pp pp pp", *3 * ["0.0 9.0"]]
        lines += ["ITEM: ATOMS id element xu yu zu vx vy vz"]
        for k, row in enumerate(np.concatenate([x, v], axis=1)):
            numbers = " ".join(f"{value:.12g}" for value in row)
            lines.append(f"{k + 1} {'O' if NUMBERS[k] == 8 else 'H'} {numbers}")
    return "\n".join(lines) + "\n"


def flip(content: bytes, rng: np.random.Generator) -> bytes:
    """Return `content` with one to eight bytes replaced."""
    changed = bytearray(content)
    for place in rng.integers(0, len(content), rng.integers(1, 9)):
        changed[place] = int(rng.integers(0, 256))
    return bytes(changed)


def truncate(content: bytes, rng: np.random.Generator) -> bytes:
    """Return the beginning of `content`."""
    return content[: int(rng.integers(0, len(content)))]


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    """Return `content` without a piece."""
    start, stop = sorted(rng.integers(0, len(content), 2))
    return content[:start] + content[stop:]


def change_lines(content: bytes, rng: np.random.Generator) -> bytes:
    """Return `content` with a line deleted, repeated, or swapped with another."""
    lines = content.splitlines(keepends=True)
    one, other = (int(k) for k in rng.integers(0, len(lines), 2))
    match rng.integers(0, 3):
        case 0:
            del lines[one]
        case 1:
            lines.insert(other, lines[one])
        case _:
            lines[one], lines[other] = lines[other], lines[one]
    return b"".join(lines)


def edit_word(content: bytes, rng: np.random.Generator) -> bytes:
    """Return `content` with one word of it replaced by a strange one."""
    words = content.split(b" ")
    words[int(rng.integers(0, len(words)))] = STRANGE[rng.integers(0, len(STRANGE))]
    return b" ".join(words)


Mutation = Callable[[bytes, np.random.Generator], bytes]
MUTATIONS: tuple[Mutation, ...] = (flip, truncate, cut, change_lines, edit_word)


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Return `content` after one of the mutations."""
    return MUTATIONS[rng.integers(0, len(MUTATIONS))](content, rng)


def outcome(path: Path) -> str:
    """Return "error", "frames", or what else reading a file came to."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frames = read_frames(path, STRIDE_FS)
    except TrajectoryError as error:
        return "error" if str(path) in str(error) else f"no file named: {error}"
    except Exception as error:  # noqa: BLE001  that is what is looked for
        return f"{type(error).__name__}: {error}"
    return "frames" if is_sound(frames) else "unsound frames"


def is_sound(frames: Frames) -> bool:
    """Return whether frames are finite and of one shape."""
    n_atoms = len(frames.atomic_numbers)
    shape = (frames.n_frames, n_atoms, 3)
    arrays = (frames.positions, frames.velocities, frames.masses, frames.cell)
    return (
        frames.positions.shape == frames.velocities.shape == shape
        and frames.n_frames > 1
        and frames.masses.shape == (n_atoms,)
        and frames.cell.shape == (3, 3)
        and frames.pbc.shape == (3,)
        and np.isfinite(frames.stride_fs)
        and frames.stride_fs > 0
        and all(bool(np.isfinite(array).all()) for array in arrays)
    )


def attack(
    kind: str, number: int, seed: int, folder: Path
) -> tuple[Counter[str], float]:
    """Return how often each outcome came, and the longest time of the processor, s."""
    content = write_original(kind, folder / f"original{SUFFIXES[kind]}").read_bytes()
    rng = np.random.default_rng([seed, *kind.encode()])
    path, found, longest = folder / f"damaged{SUFFIXES[kind]}", Counter(), 0.0
    for _ in range(number):
        path.write_bytes(damaged(content, rng))
        start = time.process_time()  # load of others does not count
        found[outcome(path)] += 1
        longest = max(longest, time.process_time() - start)
    return found, longest


def main() -> int:
    """Attack every format and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=10_000, help="of files in all")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    each, failed = -(-arguments.number // len(SUFFIXES)), 0
    print("format  files  error  frames  else  longest (s of CPU)")
    with tempfile.TemporaryDirectory() as folder:
        for kind in SUFFIXES:
            found, longest = attack(kind, each, arguments.seed, Path(folder))
            wrong = each - found["error"] - found["frames"]
            failed += wrong + (longest > LIMIT_S)
            print(
                f"{kind:6}  {each:5}  {found['error']:5}  {found['frames']:6}  "
                f"{wrong:4}  {longest:.2f}",
                flush=True,
            )
            for text in sorted(set(found) - {"error", "frames"}):
                print(f"  {found[text]} x {text}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())

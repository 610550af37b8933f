"""Damaged files, and data that no MD wrote, end in the documented error."""

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks" / "hostile"
sys.path.insert(0, str(FOLDER))

from trajectories import (  # noqa: E402
    NUMBERS,
    STRIDE_FS,
    SUFFIXES,
    attack,
    dump_text,
    motion,
    write_original,
)

from trajcast_ase.trajectory import TrajectoryError, read_frames  # noqa: E402
from trajcast_ase.validation.inputs import stated_temperature  # noqa: E402


@pytest.mark.parametrize("kind", SUFFIXES)
def test_originals_are_read_as_written(tmp_path, kind):
    frames = read_frames(write_original(kind, tmp_path / f"a{SUFFIXES[kind]}"), 2.0)
    positions, velocities = motion()
    # extxyz holds eight decimals.
    np.testing.assert_allclose(frames.positions, positions, atol=1e-8)
    np.testing.assert_allclose(frames.velocities, velocities, atol=1e-8)
    assert frames.atomic_numbers.tolist() == NUMBERS.tolist()
    assert frames.stride_fs == pytest.approx(STRIDE_FS, abs=1e-12)
    assert frames.pbc.all()


@pytest.mark.parametrize("kind", SUFFIXES)
def test_damaged_files_give_the_documented_error_or_frames(tmp_path, kind):
    found, _ = attack(kind, 120, seed=5, folder=tmp_path)
    assert set(found) <= {"error", "frames"}, found
    assert found["error"] > 60


@pytest.mark.parametrize("kind", SUFFIXES)
def test_empty_files_are_refused(tmp_path, kind):
    path = tmp_path / f"empty{SUFFIXES[kind]}"
    path.touch()
    with pytest.raises(TrajectoryError, match="empty"):
        read_frames(path, STRIDE_FS)
    if kind in ("hdf5", "traj"):
        with pytest.raises(TrajectoryError, match="empty"):
            stated_temperature(path)


def dump(tmp_path, edit=lambda text: text, units="real"):
    path = tmp_path / "a.lammpstrj"
    path.write_text(edit(dump_text(*motion(), units=units)))
    return path


def test_a_dump_without_units_asks_for_them(tmp_path):
    path = dump(tmp_path, units=None)
    with pytest.raises(TrajectoryError, match="does not state its units"):
        read_frames(path, STRIDE_FS)
    frames = read_frames(path, STRIDE_FS, lammps_units="real")
    np.testing.assert_allclose(frames.velocities, motion()[1], rtol=1e-9)


def test_wrong_units_are_noticed(tmp_path):
    with pytest.raises(TrajectoryError, match="states units 'real', but 'metal'"):
        read_frames(dump(tmp_path), STRIDE_FS, lammps_units="metal")
    with pytest.raises(TrajectoryError, match=r"temperature of .* K, outside.*units"):
        read_frames(dump(tmp_path, units=None), STRIDE_FS, lammps_units="metal")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ITEM: TIMESTEP\n8\n", "8\n", "instead of 'ITEM: TIMESTEP'"),
        ("ITEM: TIMESTEP\n8\n", "ITEM: TIMESTEP\n9\n", "frames 1 and 2 are steps"),
        ("\n2 H", "\n3 H", "stands twice"),
        ("\n2 H", "\n7 H", "other atom ids"),
        ("element xu", "type xu", "no column 'element'"),
        ("ATOMS id", "ATOMS mol", "no column 'id'"),
        ("\n3 H", "\n3 H 1.0", "has not 8 columns"),
        ("real", "lj", "'lj' are not read"),
        ("\n2 H", "\n2 D", "'D' above line .* is no element"),
    ],
)
def test_what_is_wrong_with_a_dump_is_named(tmp_path, old, new, message):
    path = dump(tmp_path, lambda text: text.replace(old, new, 1))
    with pytest.raises(TrajectoryError, match=message) as caught:
        read_frames(path, STRIDE_FS)
    assert str(path) in str(caught.value)


def test_a_torn_dump_is_refused(tmp_path):
    path = dump(tmp_path, lambda text: text[:-5])
    with pytest.raises(TrajectoryError, match="ends within a frame"):
        read_frames(path, STRIDE_FS)


def test_a_dump_that_states_its_time_needs_no_stride(tmp_path):
    text = dump_text(*motion())
    for step in range(8):
        item = f"ITEM: TIMESTEP\n{4 * step}\n"
        text = text.replace(item, f"ITEM: TIME\n{STRIDE_FS * step}\n{item}")
    path = tmp_path / "a.lammpstrj"
    path.write_text(text)
    assert read_frames(path).stride_fs == pytest.approx(STRIDE_FS, abs=1e-9)


def test_an_xyz_with_too_few_lines_names_the_count(tmp_path):
    path = write_original("extxyz", tmp_path / "a.xyz")
    path.write_text("999999999" + path.read_text()[1:])
    with pytest.raises(TrajectoryError, match="999999999 atoms, but 38 follow"):
        read_frames(path, STRIDE_FS)


def weighed(text, mass):
    """Return a dump with a column of masses, of hydrogen `mass`."""
    weights = {"H": mass, "O": "15.999"}
    lines = text.replace("element xu", "element mass xu").split("\n")
    for number, line in enumerate(lines):
        words = line.split()
        if len(words) == 8 and words[1] in weights:
            words.insert(2, weights[words[1]])
            lines[number] = " ".join(words)
    return "\n".join(lines)


def test_masses_of_a_dump_are_read(tmp_path):
    path = dump(tmp_path, lambda text: weighed(text, "2.014"))
    frames = read_frames(path, STRIDE_FS)
    assert set(frames.masses[frames.atomic_numbers == 1]) == {2.014}
    np.testing.assert_allclose(frames.velocities, motion()[1], rtol=1e-9)
    text = path.read_text()
    place = text.rindex("2.014")
    path.write_text(text[:place] + "1.008" + text[place + 5 :])
    with pytest.raises(TrajectoryError, match="has other masses or columns than"):
        read_frames(path, STRIDE_FS)


@pytest.mark.parametrize("scaled", [False, True])
def test_bounds_of_open_axes_may_follow_the_atoms(tmp_path, scaled):
    positions, velocities = motion()
    lines = dump_text(positions, velocities).split("\n")
    frame = -1
    for number, line in enumerate(lines):
        if line.startswith("ITEM: BOX BOUNDS"):
            frame += 1
            low, high = positions[frame].min(axis=0), positions[frame].max(axis=0)
            lines[number] = "ITEM: BOX BOUNDS ss ss ss"
            for axis in range(3):
                lines[number + 1 + axis] = f"{low[axis]:.15g} {high[axis]:.15g}"
        words = line.split()
        if scaled and len(words) == 8 and words[0].isdigit():
            atom = int(words[0]) - 1
            shares = (positions[frame, atom] - low) / (high - low)
            words[2:5] = [f"{one:.15g}" for one in shares]
            lines[number] = " ".join(words)
    text = "\n".join(lines)
    if scaled:
        text = text.replace("xu yu zu", "xs ys zs")
    path = tmp_path / "a.lammpstrj"
    path.write_text(text)
    frames = read_frames(path, STRIDE_FS)
    assert not frames.pbc.any()
    np.testing.assert_allclose(frames.positions, positions, atol=1e-9)


@pytest.mark.parametrize("kind", ["extxyz", "dump"])
def test_compressed_text_is_read(tmp_path, kind):
    path = write_original(kind, tmp_path / f"a{SUFFIXES[kind]}")
    packed = tmp_path / f"{path.name}.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    plain = read_frames(path, STRIDE_FS)
    np.testing.assert_array_equal(
        read_frames(packed, STRIDE_FS).velocities, plain.velocities
    )

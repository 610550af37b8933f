import h5py
import numpy as np
import pytest
from ase import units
from ase.io import Trajectory, read, write
from spring_runs import (
    STRIDE_FS,
    as_atoms,
    spring_run,
    write_extxyz,
    write_hdf5,
    write_traj,
)

from trajcast_ase.trajectory import TrajectoryError, read_frames


@pytest.fixture
def run():
    return spring_run(12, seed=3)


def test_hdf5_keeps_every_digit(tmp_path, run):
    frames = read_frames(write_hdf5(tmp_path / "a.h5", *run))
    assert np.array_equal(frames.positions, run[0])
    assert np.array_equal(frames.velocities, run[1])
    assert frames.stride_fs == STRIDE_FS


def test_traj_tells_its_stride(tmp_path, run):
    path = write_traj(tmp_path / "a.traj", *run, timestep=0.5 * units.fs, interval=4)
    frames = read_frames(path)
    assert frames.stride_fs == pytest.approx(2.0, abs=1e-12)
    np.testing.assert_allclose(frames.velocities, run[1], rtol=1e-13)


def test_extxyz_needs_the_stride(tmp_path, run):
    path = write_extxyz(tmp_path / "a.xyz", *run)
    with pytest.raises(
        TrajectoryError, match="give it in fs, as stride_fs or --stride"
    ):
        read_frames(path)
    frames = read_frames(path, stride_fs=2.0)
    np.testing.assert_allclose(frames.positions, run[0], atol=1e-7)


def test_a_wrong_stride_is_refused(tmp_path, run):
    path = write_hdf5(tmp_path / "a.h5", *run)
    with pytest.raises(TrajectoryError, match="every 2 fs, but stride_fs = 3"):
        read_frames(path, stride_fs=3.0)


def test_an_uneven_stride_names_the_frames(tmp_path, run):
    time = np.arange(12) * 2.0
    time[7:] += 1.0
    path = write_hdf5(tmp_path / "a.h5", *run, time=time)
    with pytest.raises(TrajectoryError, match="frames 6 and 7 are 3 fs apart"):
        read_frames(path)


def test_missing_velocities_are_named(tmp_path, run):
    images = as_atoms(*run)
    del images[5].arrays["momenta"]
    path = tmp_path / "a.traj"
    with Trajectory(str(path), "w") as trajectory:
        for atoms in images:
            trajectory.write(atoms)
    with pytest.raises(TrajectoryError, match="no velocities"):
        read_frames(path, stride_fs=2.0)


def test_nan_names_the_frame(tmp_path, run):
    run[1][4, 1, 2] = np.nan
    path = write_hdf5(tmp_path / "a.h5", *run)
    with pytest.raises(TrajectoryError, match="velocities of frame 4"):
        read_frames(path)


@pytest.mark.parametrize("change", ["numbers", "cell"])
def test_a_changing_system_is_refused(tmp_path, run, change):
    images = as_atoms(*run)
    if change == "numbers":
        images[3].numbers[0] = 9
    else:
        for atoms in images:
            atoms.set_cell(np.eye(3) * 10)
            atoms.pbc = True
        images[3].cell[:] = np.eye(3) * 9
    path = tmp_path / "a.traj"
    with Trajectory(str(path), "w") as trajectory:
        for atoms in images:
            trajectory.write(atoms)
    with pytest.raises(TrajectoryError, match="frame 3"):
        read_frames(path, stride_fs=2.0)


def test_hdf5_tells_the_kicks_of_a_thermostat(tmp_path, run):
    path = write_hdf5(tmp_path / "a.h5", *run)
    assert read_frames(path).kicks is None
    with h5py.File(path, "r+") as file:
        file["kicks"] = np.array([1, 3])
    assert read_frames(path).kicks.tolist() == [1, 3]


@pytest.mark.parametrize(
    "kicks", [[3, 1], [1, 1], [-1], [10**6], [1.5], [[1], [3]], ["a"]]
)
def test_damaged_kicks_are_refused(tmp_path, run, kicks):
    path = write_hdf5(tmp_path / "a.h5", *run)
    with h5py.File(path, "r+") as file:
        file["kicks"] = kicks
    with pytest.raises(TrajectoryError, match=r"a\.h5: kicks .* write the file again"):
        read_frames(path)


def test_foreign_and_damaged_hdf5_are_refused(tmp_path, run):
    path = write_hdf5(tmp_path / "a.h5", *run)
    damaged = tmp_path / "b.h5"
    damaged.write_bytes(path.read_bytes()[:500])
    with pytest.raises(TrajectoryError, match="not a readable HDF5"):
        read_frames(damaged)
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(TrajectoryError, match="not of format"):
        read_frames(tmp_path / "c.h5")


@pytest.mark.parametrize("name", ["vel", "velo", "velocities"])
def test_a_column_of_velocities_says_what_to_write(tmp_path, run, name):
    images = as_atoms(*run)
    for image in images:
        image.arrays[name] = image.get_velocities() * units.fs
        del image.arrays["momenta"]
    path = tmp_path / "other.xyz"
    write(path, images, format="extxyz")
    with pytest.raises(TrajectoryError, match=f"column '{name}' does not tell its un"):
        read_frames(path, STRIDE_FS)
    # What the error says works.
    images = read(path, ":")
    for image in images:
        image.set_velocities(image.arrays[name] / units.fs)
    write(tmp_path / "mine.traj", images)
    frames = read_frames(tmp_path / "mine.traj", STRIDE_FS)
    np.testing.assert_allclose(frames.velocities, run[1], atol=1e-8)


def test_the_stride_does_not_depend_on_the_length(tmp_path):
    found = []
    for n_frames in (12, 400):
        time = np.cumsum(np.full(n_frames, 1.2)) - 1.2
        path = tmp_path / f"{n_frames}.h5"
        write_hdf5(path, *spring_run(n_frames, seed=3), time=time)
        found.append(read_frames(path).stride_fs)
    assert found == [1.2, 1.2]


def test_atoms_that_rest_are_fixed(tmp_path, run):
    positions, velocities = (values.copy() for values in run)
    positions[:, 0], velocities[:, 0] = positions[0, 0], 0.0
    frames = read_frames(write_hdf5(tmp_path / "a.h5", positions, velocities))
    assert np.flatnonzero(frames.fixed).tolist() == [0]
    assert frames.atoms(3).constraints[0].index.tolist() == [0]
    assert not read_frames(write_hdf5(tmp_path / "b.h5", *run)).fixed.any()

"""Configurations that `trajcast new` writes."""

from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.io import write
from spring_runs import FREQUENCY, as_atoms, spring_run, write_hdf5
from typer.testing import CliRunner

from trajcast_ase.cli.app import app
from trajcast_ase.training.config import TrainingConfig
from trajcast_ase.training.pairs import make_pairs
from trajcast_ase.training.suggest import fastest_period_fs, suggest
from trajcast_ase.trajectory import TrajectoryError, read_frames


def call(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture
def crystals(tmp_path, monkeypatch):
    """Two runs of a crystal with modes of 50 fs and longer, every 4 fs."""
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        rng, rest = np.random.default_rng(seed), bulk("Ar", cubic=True) * (2, 2, 2)
        rates = 2 * np.pi / rng.uniform(50.0, 300.0, (len(rest), 3))
        phases = rng.uniform(0, 2 * np.pi, (len(rest), 3))
        frames = []
        for time in 4.0 * np.arange(200):
            frame = rest.copy()
            frame.positions += 0.05 * np.sin(rates * time + phases)
            speeds = 0.05 * rates * np.cos(rates * time + phases)
            frame.set_velocities(speeds / units.fs)
            frames.append(frame)
        write(f"nve [{seed}].traj", frames)
    return [f"nve [{seed}].traj" for seed in range(2)]


def test_new_writes_a_configuration_that_can_be_trained(crystals):
    done = call("new", *crystals, "--stride", 4, "--out", "runs/argon.toml")
    assert done.exit_code == 0, done.stderr
    assert "next: trajcast train runs/argon.toml" in done.stdout
    config = TrainingConfig.from_toml("runs/argon.toml")
    assert [Path(file).name for file in config.data.train] == ["nve [0].traj"]
    assert [Path(file).name for file in config.data.validation] == ["nve [1].traj"]
    assert config.data.horizon_fs == 28.0  # at most 30, a multiple of 4
    assert config.data.stride_fs == 4.0
    assert 4.0 <= config.network.cutoff <= 6.0
    assert config.network.surroundings_cutoff is None  # one element: no charges
    assert config.optimizer.minutes == 30.0
    assert (config.run.name, config.run.directory.name) == ("argon", "argon")
    again = call("new", *crystals, "--stride", 4, "--out", "runs/argon.toml")
    assert again.exit_code == 1
    assert "pass --overwrite" in again.stderr


def test_times_are_written_in_full(tmp_path):
    stride = 80 * 0.02418884326  # atomic units of time, of which six digits are too few
    x, v = spring_run(200, 1)
    scaled = v * 2.0 / stride
    told = write_hdf5(tmp_path / "told.h5", x, scaled, stride_fs=stride)
    rounded = np.round(stride * np.arange(200), 7)
    other = write_hdf5(tmp_path / "other.h5", x, scaled, time=rounded)
    write(tmp_path / "untold.traj", as_atoms(x, scaled))
    out = tmp_path / "new.toml"
    untold = (tmp_path / "untold.traj", "--stride", repr(stride))
    for arguments in ((told, other), untold):
        done = call("new", *arguments, "--out", out, "--overwrite")
        assert done.exit_code == 0, done.stderr
        data = TrainingConfig.from_toml(out).data
        for file in (*data.train, *data.validation):
            frames = read_frames(file, data.stride_fs)
            assert len(make_pairs(frames, data.horizon_fs)) > 100


def test_new_refuses_what_no_training_takes(crystals):
    for arguments, message in (
        (crystals, "does not tell the time between frames"),
        ([*crystals, "--stride", 8], "the time between frames is 4"),
        ([*crystals, "--stride", 4, "--horizon", 6], "not a whole number of frame"),
        ([*crystals, "--stride", 4, "--out", "x.txt"], "must end in .toml"),
    ):
        done = call("new", *arguments)
        assert done.exit_code == 1
        assert message in done.stderr
    assert not Path("model.toml").exists()


def test_the_horizon_follows_the_fastest_vibration(tmp_path):
    frames = read_frames(write_hdf5(tmp_path / "a.h5", *spring_run(200, 1)))
    assert fastest_period_fs(frames) == pytest.approx(2 * np.pi / FREQUENCY, rel=0.1)
    found = suggest([tmp_path / "a.h5"], tmp_path)
    assert found.resolved
    assert found.horizon_fs == 12.0  # the last multiple of 2 in 0.7 of 17.4 fs
    assert found.validation == ()


def test_cells_of_several_sizes_are_all_trained_on(tmp_path):
    files = []
    for name, n_copies in (("a", 1), ("b", 1), ("c", 2), ("d", 2), ("e", 3)):
        images = as_atoms(*spring_run(40, 1))
        files.append(tmp_path / f"{name}.traj")
        write(files[-1], [bonded_copies(image, n_copies) for image in images])
    found = suggest(files, tmp_path, stride_fs=2.0)
    assert found.train == ("a.traj", "c.traj", "e.traj")
    assert found.validation == ("b.traj", "d.traj")
    assert found.n_systems == 3
    assert "2 run(s) of 4 atoms (H1 C1), 1 run(s) of 6 atoms" in found.description
    out = tmp_path / "sizes.toml"
    done = call("new", *files, "--stride", 2, "--out", out)
    assert done.exit_code == 0, done.stderr
    assert "a file named twice counts twice" in out.read_text()


def test_the_fastest_of_several_systems_decides_the_horizon(crystals, tmp_path):
    x, v = spring_run(200, 1)
    write("fast.traj", as_atoms(x, v / 2.0))  # every 4 fs instead of 2
    files = [tmp_path / crystals[0], tmp_path / "fast.traj"]
    found = suggest(files, tmp_path, stride_fs=4.0)
    assert found.period_fs < 40.0  # of the crystal alone 50


def bonded_copies(image, n_copies):
    """Return an image and others of it, far away."""
    system = image.copy()
    for number in range(1, n_copies):
        other = image.copy()
        other.positions[:, 0] += 20.0 * number
        system += other
    return system


def test_runs_of_two_strides_are_named(tmp_path):
    for name, stride in (("a.h5", 2.0), ("b.h5", 1.0)):
        x, v = spring_run(40, 1)
        write_hdf5(tmp_path / name, x, v * 2.0 / stride, stride_fs=stride)
    with pytest.raises(TrajectoryError, match=r"b\.h5 has a frame every 1 fs"):
        suggest([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path)

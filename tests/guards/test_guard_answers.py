"""What is done where a guard objects: stop with evidence, warn, forces, or lose one."""

import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from ase import units
from ase.io import read
from driver_helpers import FreeFlight, Springs, crystal, snapshot, water

from trajcast_ase import CSVR, ForceFallback, Replicas, TrajCast, load_model
from trajcast_ase.data import paracetamol
from trajcast_ase.dynamics.fallback import SenselessForecastError
from trajcast_ase.dynamics.losses import LostReplicaWarning
from trajcast_ase.guards import Finding, KeptBonds, LargestKick
from trajcast_ase.guards.answer import GuardWarning
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.testing import Ballistic


@dataclass(frozen=True)
class FarFrom:
    """Objects to systems that have come farther than a limit along x; no memory."""

    limit: float
    every: int = 1

    def find(self, model, before, after):
        del model, before
        found = {}
        for atom, x in enumerate(after.positions[:, 0].tolist()):
            if x > self.limit:
                system = int(after.system_index[atom])
                found[system] = Finding(atom, system, x, self.limit, f"x is {x:.2f} Å")
        return list(found.values())


class Curved(Ballistic):
    """Free flight that bends: no forces do that."""

    def raw_forecast(self, state):
        moved, velocities = super().raw_forecast(state)
        bend = torch.tensor([0.0, 0.1, -0.1], dtype=torch.float64)
        bends = bend * (state.atomic_numbers == 1)[:, None]
        return moved + bends, velocities


def drifting(x=0.0, velocity=0.1):
    atoms = water()
    atoms.positions[:, 0] += x
    atoms.set_velocities(np.tile([velocity / units.fs, 0.0, 0.0], (3, 1)))
    return atoms


def test_a_stop_leaves_evidence(tmp_path):
    atoms = drifting()
    dynamics = TrajCast(
        atoms,
        Ballistic(5.0),
        guards=[FarFrom(4.0)],
        trajectory=str(tmp_path / "md.traj"),
    )
    with (
        dynamics,
        pytest.raises(
            SenselessForecastError,
            match=r"of step 7 is refused: x is 4\.\d\d Å; the Atoms hold step 6; the "
            r"last frames are in .*md\.evidence\.extxyz.*\(FarFrom objects\)",
        ),
    ):
        dynamics.run(20)
    frames = read(tmp_path / "md.evidence.extxyz", index=":")
    assert [one.info["stride"] for one in frames] == [4, 5, 6, 7]
    assert [one.info["verdict"] for one in frames] == 3 * ["good"] + ["refused"]
    assert frames[-1].info["guard"] == "FarFrom"
    assert frames[-1].info["finding"].startswith("x is 4.")
    assert frames[-1].info["value"] > frames[-1].info["limit"] == 4.0
    np.testing.assert_allclose(frames[2].positions, atoms.positions, atol=1e-7)
    np.testing.assert_allclose(frames[2].get_momenta(), atoms.get_momenta(), atol=1e-7)


def test_evidence_of_what_is_not_finite(tmp_path):
    class Broken(Ballistic):
        def raw_forecast(self, state):
            moved, velocities = super().raw_forecast(state)
            return moved * torch.nan, velocities

    path = tmp_path / "told.extxyz"
    dynamics = TrajCast(
        water(), Broken(5.0), guards=(), on_finding="warn", evidence=path
    )
    for _ in range(2):  # a retry writes the same
        with pytest.raises(SenselessForecastError, match=r"step 1 is not finite for"):
            dynamics.run(3)
        frames = read(path, index=":")
        assert [one.info["stride"] for one in frames] == [0, 1]
    assert np.isnan(frames[-1].positions).any()


def test_a_disk_that_is_full_hides_nothing(tmp_path):
    path = tmp_path / "nowhere" / "told.extxyz"
    dynamics = TrajCast(drifting(9.0), Ballistic(5.0), guards=[FarFrom(4.0)])
    dynamics._guarding.evidence = path
    with pytest.raises(SenselessForecastError, match="could not be written"):
        dynamics.run(3)


def test_a_refused_stride_is_undone():
    model, atoms = crystal()
    rng = np.random.default_rng(3)
    bath = CSVR(300.0, 50 * units.fs, rng)
    dynamics = TrajCast(atoms, model, thermostat=bath, guards=[FarFrom(-1.0)])
    before = snapshot(atoms), rng.bit_generator.state
    with pytest.raises(SenselessForecastError):
        dynamics.run(3)
    assert (snapshot(atoms), rng.bit_generator.state) == before
    assert dynamics.nsteps == 0
    assert dynamics.tally.found == {}


def test_warnings_are_given_once_and_counted():
    atoms, free = drifting(), drifting()
    dynamics = TrajCast(atoms, Ballistic(5.0), guards=[FarFrom(4.0)], on_finding="warn")
    with pytest.warns(GuardWarning, match="FarFrom objects to the forecast of step 7"):
        dynamics.run(8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dynamics.run(4)
    assert dynamics.tally.found == {"FarFrom": 6}
    assert dynamics.tally.by_forces == 0
    TrajCast(free, Ballistic(5.0)).run(12)
    assert snapshot(atoms) == snapshot(free)


def test_a_replica_that_is_refused_is_lost_alone(tmp_path):
    starts = [drifting(0.0), drifting(2.0), drifting(-9.0)]
    replicas = Replicas(
        starts,
        Ballistic(5.0),
        guards=[FarFrom(4.0)],
        trajectory=str(tmp_path / "md-{replica}.traj"),
    )
    with replicas, pytest.warns(LostReplicaWarning, match="replica [01]"):
        replicas.run(10)
    assert [(one.number, one.stride) for one in replicas.lost] == [(0, 6), (1, 2)]
    assert replicas[2].nsteps == 10
    assert replicas[2].tally.found == {}
    frames = read(tmp_path / "md-1.evidence.extxyz", index=":")
    assert [one.info["stride"] for one in frames] == [0, 1, 2, 3]
    np.testing.assert_allclose(frames[-2].positions, starts[1].positions, atol=1e-7)
    assert not (tmp_path / "md-2.evidence.extxyz").exists()


def test_replicas_warn_each():
    starts = [drifting(0.0), drifting(2.0)]
    replicas = Replicas(
        starts, Ballistic(5.0), guards=[FarFrom(4.0)], on_finding="warn"
    )
    with pytest.warns(GuardWarning):
        replicas.run(10)
    assert [one.tally.found for one in replicas] == [{"FarFrom": 4}, {"FarFrom": 8}]
    assert not replicas.lost


def test_replicas_fall_back_as_one_run_does():
    starts = [drifting(-9.0), drifting(2.0), drifting(-9.0)]
    for one in starts:
        one.calc = FreeFlight()
    alone = starts[1].copy()
    alone.calc = FreeFlight()
    model, settings = (
        Curved(5.0),
        {
            "guards": [FarFrom(4.0)],
            "fallback": ForceFallback(0.5 * units.fs),
        },
    )
    single = TrajCast(alone, model, **settings)
    single.run(6)
    replicas = Replicas(starts, model, **settings)
    replicas.run(6)
    assert [one.tally.by_forces for one in replicas] == [0, 4, 0]
    assert single.tally.by_forces == 4
    np.testing.assert_allclose(starts[1].positions, alone.positions, atol=1e-10)
    np.testing.assert_array_equal(starts[0].positions, starts[2].positions)
    straight = drifting(-9.0)
    TrajCast(straight, Ballistic(5.0)).run(6)
    assert not np.allclose(starts[0].positions, straight.positions, atol=0.1)


def test_forces_that_fail_lose_one_replica():
    starts = [drifting(2.0), drifting(-9.0)]
    model = Ballistic(5.0)

    class Fails(FreeFlight):
        def get_property(self, *_, **__):
            raise RuntimeError("no convergence")

    for one in starts:
        one.calc = Fails()
    replicas = Replicas(
        starts, model, guards=[FarFrom(4.0)], fallback=ForceFallback(units.fs)
    )
    with pytest.warns(LostReplicaWarning, match="no convergence"):
        replicas.run(5)
    assert replicas[1].nsteps == 5


def test_a_run_with_forces_goes_on_exactly(tmp_path):
    model, atoms = crystal()
    guard, fallback = FarFrom(1.0, every=3), ForceFallback(1.0 * units.fs)

    def settings(seed):
        bath = CSVR(300.0, 50 * units.fs, np.random.default_rng(seed))
        return {"thermostat": bath, "guards": [guard], "fallback": fallback}

    steady = atoms.copy()
    steady.calc = atoms.calc = Springs(model)
    whole = TrajCast(steady, model, **settings(5))
    whole.run(11)
    part = TrajCast(atoms, model, **settings(5))
    part.run(4)
    part.checkpoint(tmp_path / "run.checkpoint")
    rest = TrajCast.restart(
        tmp_path / "run.checkpoint", model, calculator=Springs(model), **settings(6)
    )
    assert rest.tally.by_forces == part.tally.by_forces == 1
    rest.run(7)
    assert snapshot(rest.atoms) == snapshot(steady)
    assert rest.tally == whole.tally
    assert whole.tally.by_forces == 3


def test_a_restart_keeps_the_bonds_of_the_start(tmp_path):
    model, atoms = load_model("paracetamol-7fs"), paracetamol()
    draw_momenta(atoms, 300.0, np.random.default_rng(1), model.conservation)
    dynamics = TrajCast(atoms, model)
    dynamics.run(1)
    kept = dynamics._watch(atoms).bonds.systems[0].topology.pairs
    # As if a bond had been stretched at that moment.
    hydrogen = int(kept[-1, 1])
    atoms.positions[hydrogen] *= 1.2
    state = dynamics._run_state()
    dynamics.checkpoint(tmp_path / "run.checkpoint")
    again = TrajCast.restart(tmp_path / "run.checkpoint", model)
    assert state.guards["bonds"] == kept.tolist()
    pairs = again._watch(again.atoms).bonds.systems[0].topology.pairs
    assert np.array_equal(pairs, kept)
    assert not np.array_equal(KeptBonds.of(again.atoms).systems[0].topology.pairs, kept)


def test_replicas_restart_with_their_counts(tmp_path):
    starts = [drifting(0.0), drifting(2.0)]
    settings = {"guards": [FarFrom(4.0), LargestKick()], "on_finding": "warn"}
    replicas = Replicas(starts, Ballistic(5.0), **settings)
    with pytest.warns(GuardWarning):
        replicas.run(8)
    replicas.checkpoint(tmp_path / "all.checkpoint")
    again = Replicas.restart(tmp_path / "all.checkpoint", Ballistic(5.0), **settings)
    assert [one.tally.found for one in again] == [{"FarFrom": 2}, {"FarFrom": 6}]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again.run(2)
    assert again[0].tally.found == {"FarFrom": 4}

"""Edits of the Atoms between strides: honoured, or refused and undone."""

import warnings

import numpy as np
import pytest
from ase import Atoms, units
from ase.constraints import FixAtoms, FixCom
from driver_helpers import HORIZON, STRIDE, draw_momenta, snapshot, water
from helpers import by_either_engine

from trajcast_ase.dynamics.driver import TrajCast
from trajcast_ase.testing import Ballistic
from trajcast_ase.thermostats.csvr import CSVR

pytestmark = pytest.mark.filterwarnings("ignore:.*are fixed:UserWarning")


def box(seed=0):
    """Return six atoms in a periodic cell with momenta."""
    rng = np.random.default_rng(seed)
    grid = 2.5 * np.array([[x, y, z] for x in range(3) for y in range(2) for z in [0]])
    return draw_momenta(Atoms("OHHCHN", grid, cell=[9, 8, 7], pbc=True), rng)


class CellAware(Ballistic):
    """A model whose forecast depends on everything it is given."""

    __slots__ = ()

    def raw_forecast(self, state):
        features = (
            state.masses * 1e-4
            + state.atomic_numbers * 1e-3
            + state.cell.sum() * 1e-3
            + state.pbc.sum() * 1e-2
        )
        pull = features[:, None] * 1e-3 * state.positions.sin()
        return state.velocities * self.horizon_fs + pull, state.velocities + 1e-2 * pull


def set_positions(atoms):
    atoms.positions += 0.1


def set_one_momentum(atoms):
    atoms.arrays["momenta"][2] *= 2


def delete_momenta(atoms):
    del atoms.arrays["momenta"]


def set_numbers(atoms):
    atoms.numbers[0] = 7


def set_symbols(atoms):
    atoms.symbols[1] = "C"


def set_masses(atoms):
    atoms.set_masses([2.014 if s == "H" else None for s in atoms.symbols])


def set_cell_in_place(atoms):
    atoms.cell[1] *= 1.1


def set_cell(atoms):
    atoms.set_cell(atoms.cell * 1.05, scale_atoms=True)


def set_pbc(atoms):
    atoms.pbc[2] = False


def remove_atom(atoms):
    del atoms[3]


def add_atom(atoms):
    atoms.append("O")
    atoms.positions[-1] = [1, 1, 4]


def reorder(atoms):
    order = [5, 4, 3, 2, 1, 0]
    for name, values in atoms.arrays.items():
        atoms.arrays[name] = values[order].copy()


def fix_atoms(atoms):
    atoms.set_constraint(FixAtoms([1, 2]))


def fix_com(atoms):
    atoms.set_constraint(FixCom())


def wrap(atoms):
    atoms.positions -= atoms.cell[0]


def replace_array(atoms):
    atoms.arrays["positions"] = (atoms.positions + 0.2).astype(np.float32)


def other_driver(atoms):
    TrajCast(atoms, CellAware(HORIZON)).run(1)


EDITS = [
    set_positions,
    set_one_momentum,
    set_numbers,
    set_symbols,
    set_masses,
    set_cell_in_place,
    set_cell,
    set_pbc,
    remove_atom,
    add_atom,
    reorder,
    fix_atoms,
    fix_com,
    wrap,
    replace_array,
    other_driver,
]


@by_either_engine
@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("where", ["between runs", "observer", "irun"])
def test_edit_counts_from_the_next_stride(edit, where):
    model = CellAware(HORIZON)
    atoms, twin, untouched = box(), box(), box()
    dyn = TrajCast(atoms, model)
    if where == "between runs":
        dyn.run(2)
        edit(atoms)
        dyn.run(2)
    elif where == "observer":
        dyn.attach(lambda: edit(atoms), interval=-2)
        dyn.run(4)
    else:
        for _ in dyn.irun(4):
            if dyn.nsteps == 2:
                edit(atoms)
    TrajCast(twin, model).run(2)
    edit(twin)
    TrajCast(twin, model).run(2)
    TrajCast(untouched, model).run(4)
    assert snapshot(atoms) == snapshot(twin)
    assert snapshot(atoms) != snapshot(untouched)


@by_either_engine
def test_deleted_momenta_are_zero_momenta():
    atoms = box()
    dyn = TrajCast(atoms, Ballistic(HORIZON))
    dyn.run(1)
    delete_momenta(atoms)
    before = atoms.get_positions()
    with pytest.warns(UserWarning, match="missing velocities"):
        dyn.run(1)
    assert (atoms.positions == before).all()
    assert not atoms.arrays["momenta"].any()


@by_either_engine
def test_arrays_are_written_in_place_as_writable_float64():
    atoms = box()
    positions, momenta = atoms.positions, atoms.arrays["momenta"]
    TrajCast(atoms, Ballistic(HORIZON)).run(2)
    assert atoms.positions is positions
    assert atoms.arrays["momenta"] is momenta
    replacement = np.asfortranarray(atoms.get_positions().astype(np.float32))
    atoms.arrays["positions"] = replacement
    TrajCast(atoms, Ballistic(HORIZON)).run(2)
    assert atoms.positions.dtype == np.float64
    assert atoms.positions.flags.writeable
    assert atoms.positions.flags.c_contiguous


@by_either_engine
def test_user_writes_do_not_reach_the_state_of_other_atoms():
    atoms = box()
    dyn = TrajCast(atoms, Ballistic(HORIZON))
    dyn.run(1)
    copy = atoms.copy()
    atoms.positions[:] += 5.0  # no memory is shared: only the next pull sees it
    assert not np.allclose(dyn._mirror.state.positions.cpu().numpy(), atoms.positions)
    TrajCast(copy, Ballistic(HORIZON)).run(1)
    dyn.run(1)
    np.testing.assert_allclose(atoms.positions, copy.positions + 5.0, atol=1e-12)


@by_either_engine
def test_nothing_is_added_to_the_atoms():
    atoms = box()
    before = set(atoms.arrays)
    TrajCast(atoms, Ballistic(HORIZON)).run(3)
    assert set(atoms.arrays) == before
    assert atoms.info == {}
    assert atoms.calc is None


@by_either_engine
def test_dynamic_edits_keep_the_static_tensors():
    atoms = box()
    dyn = TrajCast(atoms, Ballistic(HORIZON))
    masses = dyn._mirror.state.masses
    set_positions(atoms)
    set_one_momentum(atoms)
    dyn.run(1)
    assert dyn._mirror.state.masses is masses
    set_masses(atoms)
    dyn.run(1)
    assert dyn._mirror.state.masses is not masses


def test_unchanged_atoms_are_not_uploaded(monkeypatch):
    dyn = TrajCast(box(), Ballistic(HORIZON))
    uploads = []
    monkeypatch.setattr(dyn._mirror, "_upload", uploads.append)
    for _ in dyn.irun(3):
        pass
    dyn.run(3)
    assert uploads == []


def nan_position(atoms):
    atoms.positions[4, 1] = np.nan


def infinite_momentum(atoms):
    atoms.arrays["momenta"][0, 0] = np.inf


def gold(atoms):
    atoms.numbers[2] = 79


def coincide(atoms):
    atoms.positions[5] = atoms.positions[0] + [0.01, 0, 0]


def coincide_with_image(atoms):
    atoms.positions[5] = atoms.positions[0] + atoms.cell[1] * 3


def no_mass(atoms):
    atoms.set_masses([0.0] + [None] * 5)


def remove_all(atoms):
    del atoms[:]


def rest(atoms):
    atoms.arrays["momenta"][:] = 0.0


REFUSED = [
    (nan_position, r"positions of row 4 .*nan"),
    (infinite_momentum, r"momenta of row 0 .*inf"),
    (gold, r"element Au .*knows H, C, N, O"),
    (coincide, r"atoms \d \(\w\) and \d \(\w\) are 0\.01 Å apart"),
    (coincide_with_image, r"atoms \d \(\w\) and \d \(\w\) .* Å apart"),
    (no_mass, "positive mass"),
    (remove_all, "empty"),
    (rest, "kinetic energy .* velocities"),
]


@by_either_engine
@pytest.mark.parametrize(("edit", "match"), REFUSED)
def test_refused_edit_can_be_undone(edit, match):
    model = Ballistic(HORIZON, elements=(1, 6, 7, 8))
    thermostats = [
        CSVR(300, 10 * STRIDE, rng=np.random.default_rng(1)) for _ in range(2)
    ]
    atoms, twin = box(), box()
    dyn = TrajCast(atoms, model, thermostat=thermostats[0])
    dyn.run(3)
    backup = atoms.copy()
    edit(atoms)
    edited = snapshot(atoms)
    for _ in range(2):
        with pytest.raises(ValueError, match=match):
            dyn.run(2)
    assert snapshot(atoms) == edited
    assert dyn.nsteps == 3
    atoms.arrays = backup.arrays
    dyn.run(2)
    TrajCast(twin, model, thermostat=thermostats[1]).run(5)
    assert snapshot(atoms) == snapshot(twin)


@by_either_engine
@pytest.mark.parametrize(("edit", "match"), REFUSED)
def test_refused_at_construction(edit, match):
    atoms = box()
    edit(atoms)
    before = snapshot(atoms)
    model = Ballistic(HORIZON, elements=(1, 6, 7, 8))
    thermostat = CSVR(300, STRIDE, rng=np.random.default_rng(1))
    with pytest.raises(ValueError, match=match):
        TrajCast(atoms, model, thermostat=thermostat)
    assert snapshot(atoms) == before


@by_either_engine
def test_far_away_atoms_and_close_ones_that_only_the_dynamics_made():
    atoms = box()
    atoms.positions[0] += 5000 * atoms.cell[0]
    TrajCast(atoms, Ballistic(HORIZON)).run(2)
    head_on = Atoms("HH", [[0, 0, 0], [1, 0, 0]])
    speed = 0.5 / (2 * STRIDE)
    head_on.set_velocities([[speed, 0, 0], [-speed, 0, 0]])
    TrajCast(head_on, Ballistic(HORIZON)).run(2)
    assert head_on.get_distance(0, 1) < 1e-12


@by_either_engine
def test_warnings_come_once_per_edit():
    atoms = water()
    dyn = TrajCast(atoms, Ballistic(HORIZON))
    rest(atoms)
    with pytest.warns(UserWarning, match="missing velocities"):
        dyn.run(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dyn.run(5)


def test_units_of_momenta():
    atoms = water()
    v = atoms.get_velocities() * units.fs
    dyn = TrajCast(atoms, Ballistic(HORIZON))
    np.testing.assert_allclose(dyn._mirror.state.velocities.cpu(), v, rtol=1e-14)

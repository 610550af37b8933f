"""Numbers that the studies in ``benchmarks`` compute and compare."""

import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import typer
from scipy import stats

FOLDER = Path(__file__).parents[1] / "benchmarks" / "studies"
if not FOLDER.exists():
    pytest.skip("needs the source tree", allow_module_level=True)
sys.path.insert(0, str(FOLDER))

from constant_energy import (  # noqa: E402
    Paths,
    forecast_paths,
    lag_of,
    mean_errors,
    read_held,
    slopes,
)
from glassy_water import cooling, windows  # noqa: E402
from glassy_water_page import departure  # noqa: E402
from learning_curves import COURSES, curves_of, trainings  # noqa: E402
from long_runs_page import special_text, stored  # noqa: E402
from study_observables import (  # noqa: E402
    Profile,
    diffusion_of,
    largest_difference,
    pooled_msd,
)
from study_reports import bond_check, extreme_bands  # noqa: E402
from study_thermostats import parse_choice  # noqa: E402

from trajcast_ase import load_model  # noqa: E402
from trajcast_ase.data import paracetamol  # noqa: E402
from trajcast_ase.trajectory import Frames  # noqa: E402
from trajcast_ase.units import FS  # noqa: E402
from trajcast_ase.validation.inputs import bundled_reference  # noqa: E402


def frames_of(positions: np.ndarray, stride_fs: float = 7.0) -> Frames:
    molecule = paracetamol()
    return Frames(
        positions=positions,
        velocities=np.zeros_like(positions),
        atomic_numbers=molecule.numbers.astype(np.int64),
        masses=molecule.get_masses(),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, dtype=bool),
        stride_fs=stride_fs,
        source="test",
    )


def walkers(rng, step: float, n_frames: int = 4000, n_atoms: int = 100) -> Frames:
    """Return free random walks, whose center is not removed: masses are equal."""
    return Frames(
        positions=np.cumsum(rng.normal(0.0, step, (n_frames, n_atoms, 3)), axis=0),
        velocities=np.zeros((n_frames, n_atoms, 3)),
        atomic_numbers=np.full(n_atoms, 8),
        masses=np.ones(n_atoms),
        cell=50.0 * np.eye(3),
        pbc=np.ones(3, dtype=bool),
        stride_fs=10.0,
        source="walk",
    )


def test_errors_are_means_over_atoms_and_axes():
    shape = (3, 2, 4, 3)
    truth = Paths(np.zeros(shape), np.zeros(shape))
    moved = np.zeros(shape)
    moved[1, 0, 0, 0] = 1.2
    moved[2, 1] = -0.5
    found, changed = mean_errors(Paths(moved, 2 * moved), truth)
    np.testing.assert_allclose(found, [[0, 0], [0.1, 0], [0, 0.5]])
    np.testing.assert_allclose(changed, 2 * found)


def test_drift_is_a_slope_per_picosecond():
    time = np.linspace(0.0, 2000.0, 11)
    values = np.stack([3e-3 * time, 1.0 - 1e-3 * time], axis=1)
    np.testing.assert_allclose(slopes(time, values), [3.0, -1.0])


def test_forecasts_start_from_the_frames_of_the_run(tmp_path):
    import h5py  # noqa: PLC0415

    model, rng = load_model("paracetamol-7fs"), np.random.default_rng(0)
    molecule = paracetamol()
    still = np.tile(molecule.positions, (9, 1, 1))
    thermal = (
        0.01 * rng.normal(size=still.shape) / np.sqrt(molecule.get_masses())[:, None]
    )
    with h5py.File(tmp_path / "nve-1.h5", "w") as file:
        file.attrs.update({"format": "trajcast-md", "format_version": 1})
        file.attrs["stride_fs"] = 3.5
        file["numbers"], file["masses"] = molecule.numbers, molecule.get_masses()
        file["cell"], file["pbc"] = np.zeros((3, 3)), np.zeros(3, dtype=bool)
        file["positions"], file["velocities"] = still, thermal
        file["time"] = 3.5 * np.arange(9)
        file["potential_energy"] = file["kinetic_energy"] = np.arange(9.0)
    held = read_held(tmp_path / "nve-1.h5", 3, 4)
    np.testing.assert_array_equal(held.starts, [0, 2, 4])
    np.testing.assert_array_equal(held.total_energy, 2 * np.arange(9.0))
    paths = forecast_paths(model, held, 2)
    assert paths.positions.shape == (3, 3, 20, 3)
    np.testing.assert_allclose(paths.velocities[0], thermal[[0, 2, 4]])
    assert np.abs(paths.positions[1] - paths.positions[0]).max() > 1e-3
    with pytest.raises(typer.BadParameter, match="leaves no 3 starts"):
        read_held(tmp_path / "nve-1.h5", 3, 8)
    with pytest.raises(typer.BadParameter, match="no whole number"):
        lag_of(held.frames, 5.0)


def test_windows_cover_the_span_once():
    spans = windows(300.0, 100.0, 4.0, 20.0)
    assert [span.temperature_K for span in spans[:2]] == [290.0, 270.0]
    covered = np.concatenate([np.arange(500)[span.frames] for span in spans])
    np.testing.assert_array_equal(covered, np.arange(500))  # 50 ps, every 100 fs
    with pytest.raises(typer.BadParameter, match="choose --window"):
        windows(300.0, 100.0, 40.0, 20.0)


def test_the_ramp_of_a_chunk_is_the_rest_of_the_whole():
    choice = parse_choice("langevin:2+csvr", load_model("water-5fs"), 50.0)
    from_time = cooling(choice, 100.0, 4.0)
    whole, later = (from_time(t)(None)[0].temperature_K for t in (0.0, 20_000.0))
    for time in (0.0, 7000.0, 30_000.0, 60_000.0):
        assert later(time * FS) == pytest.approx(whole((time + 20_000.0) * FS))
    assert later(0.0) == pytest.approx(220.0)


@pytest.mark.statistical
def test_equal_liquids_depart_in_one_of_twenty_cases_at_most():
    """400 cases: more than 33 departures have odds below 1e-3 at 5 %."""
    rng, kelvin = np.random.default_rng(3), np.linspace(290.0, 110.0, 10)
    limit = stats.binom.isf(1e-3, 400, 0.05)
    found = [
        departure(kelvin, rng.normal(size=(4, 10)), rng.normal(size=(4, 10)))
        for _ in range(400)
    ]
    assert sum(one is not None for one in found) <= limit
    # The wrong twin: one that slows below 200 K departs there, and not above.
    slow = 20.0 * (kelvin < 200.0)
    away = [
        departure(kelvin, slow + rng.normal(size=(4, 10)), rng.normal(size=(4, 10)))
        for _ in range(100)
    ]
    assert sum(one == 190.0 for one in map(_rounded, away)) > 80


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(round(value))


def test_trainings_are_listed_once():
    course = COURSES["water"]
    listed = trainings("water", course, 1500, 2)
    assert len({one.name for one in listed}) == len(listed) == 2 * (5 + 3)
    assert {one.n_pairs for one in listed} == {20, 60, 200, 600, 2000}
    assert {one.horizon_fs for one in listed} == set(course.horizons_fs)


def test_exponents_of_learning_curves():
    course = asdict(COURSES["water"])
    rows = [
        {
            **asdict(one),
            "displacement_A": one.n_pairs**-0.5 * one.horizon_fs**2,
            "displacement_percent": one.n_pairs**-0.5 * one.horizon_fs,
            "velocity_A_per_fs": one.n_pairs**-0.3 * one.horizon_fs**1.5,
            "velocity_percent": one.n_pairs**-0.3,
        }
        for one in trainings("water", COURSES["water"], 100, 2)
    ]
    found = curves_of({"course": course, "rows": rows})
    assert found["pairs"]["fits"]["displacement_A"].exponent == pytest.approx(-0.5)
    assert found["pairs"]["fits"]["velocity_percent"].exponent == pytest.approx(-0.3)
    assert found["horizon"]["fits"]["velocity_A_per_fs"].exponent == pytest.approx(1.5)
    assert found["horizon"]["x"] == list(COURSES["water"].horizons_fs)


@pytest.mark.statistical
def test_diffusion_of_pooled_walks():
    """Within 5 standard errors; a walk of steps 10 % longer, 21 % more, is not."""
    rng, step = np.random.default_rng(1), 0.01
    exact = step**2 / (2 * 10.0) * 1e4  # D = <dx²> / 2 dt
    moved = pooled_msd([walkers(rng, step), walkers(rng, step)], lag_ps=2.0)
    found = diffusion_of(moved, "O").coefficient
    assert len(moved.blocks["O"]) == 20
    assert abs(found.mean - exact) < 5 * found.error
    assert found.error < 0.03 * exact
    faster = pooled_msd([walkers(rng, 1.1 * step)] * 2, lag_ps=2.0)
    assert abs(diffusion_of(faster, "O").coefficient.mean - exact) > 5 * found.error


def test_free_energies_are_compared_where_both_were():
    angle = np.linspace(-175.0, 175.0, 36)
    values = 2.0 + 2.0 * np.cos(np.radians(2 * angle))
    first = Profile(angle, values, np.full(36, 0.1))
    assert largest_difference(first, first)[0] == pytest.approx(0.0)
    assert largest_difference(replace(first, free_energy_kT=values + 3.0), first)[
        0
    ] == pytest.approx(0.0)
    raised = np.where(values > 3.0, values + 1.5, values)
    worst, where = largest_difference(replace(first, free_energy_kT=raised), first)
    assert worst == pytest.approx(1.5, abs=0.1)
    assert values[np.argmin(np.abs(angle - where))] > 3.0
    raised[4] = np.inf
    assert largest_difference(replace(first, free_energy_kT=raised), first) == (
        np.inf,
        angle[4],
    )


def test_a_broken_bond_ends_a_run():
    reference = bundled_reference("paracetamol")
    check = bond_check(reference)
    molecule = paracetamol()
    intact = np.tile(molecule.positions, (3, 1, 1))
    assert check(frames_of(intact)) == ""
    broken = intact.copy()
    broken[1, 17] += broken[1, 17] - broken[1, 8]  # the hydroxyl hydrogen
    assert "H-O of" in check(frames_of(broken))


def test_rows_of_tables():
    rows = {
        "temperature at 0-500 cm⁻¹": {"value": 310.0, "reference": 300.0},
        "temperature at 500-900 cm⁻¹": {"value": 280.0, "reference": 300.0},
        "temperature of H at 0-500 cm⁻¹": {"value": 500.0, "reference": 300.0},
    }
    content = {"rows": rows, "bands": list(rows)}
    assert extreme_bands(content) == "-20 (500-900 cm⁻¹), +10 (0-500 cm⁻¹)"
    water = {"diffusion": [2.5, 0.05], "diffusion_md": [2.4, 0.05]}
    assert special_text(water) == "2.50 ± 0.05 (+4 %, within 5 %)"
    water["diffusion"] = [2.2, 0.05]
    assert special_text(water).endswith("(-8 %, not within 5 %)")


def test_new_rows_take_the_place_of_old_ones(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text('{"rows": [{"setting": "csvr", "n": 1}, {"setting": "mine"}]}')
    rows = stored(path, [{"setting": "csvr", "n": 2}, {"setting": "recommended"}])
    assert [row["setting"] for row in rows] == ["recommended", "csvr", "mine"]
    assert rows[1]["n"] == 2

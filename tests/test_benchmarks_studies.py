"""What the studies in ``benchmarks`` share: settings, runs in chunks, pages."""

import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from ase import units
from ase.build import molecule
from matplotlib.figure import Figure

FOLDER = Path(__file__).parents[1] / "benchmarks" / "studies"
if not FOLDER.exists():
    pytest.skip("needs the source tree", allow_module_level=True)
sys.path.insert(0, str(FOLDER))

import least_distances  # noqa: E402
import study_pages  # noqa: E402
from study_pages import plain, power_law, save_small, table  # noqa: E402
from study_runs import Plan, extend, read_seeds  # noqa: E402
from study_thermostats import parse_choice  # noqa: E402

from trajcast_ase import CSVR, AdaptiveLangevin, Langevin, load_model  # noqa: E402
from trajcast_ase.data import paracetamol  # noqa: E402
from trajcast_ase.momenta import draw_momenta  # noqa: E402

N_STRIDES = 6


@pytest.fixture(scope="module")
def model():
    return load_model("paracetamol-7fs")


@pytest.fixture
def starts(model):
    systems = [paracetamol() for _ in range(2)]
    for k, atoms in enumerate(systems):
        draw_momenta(atoms, 300.0, np.random.default_rng(k), model.conservation)
    return systems


def plan_of(model, name: str, n_chunks: int) -> Plan:
    choice = parse_choice(name, model, 70.0)
    chunk_ps = N_STRIDES * model.horizon_fs * 1e-3
    makers = choice.thermostats(300.0)
    return Plan(
        model=model,
        thermostats=lambda _: makers,
        picoseconds=n_chunks * chunk_ps,
        seed=5,
        settings={"setting": choice.words},
        noise=choice.noise,
        every=2,
        chunk_ps=chunk_ps,
    )


def test_names_stand_for_thermostats_in_their_order(model):
    made = parse_choice("langevin:2+csvr", model, 70.0).thermostats(300.0)(None)
    assert [type(one) for one in made] == [Langevin, CSVR]
    assert made[0].friction == pytest.approx(1 / (2000 * units.fs))
    assert made[1].taut == pytest.approx(70 * units.fs)
    (scan,) = parse_choice("csvr:50", model, 70.0).thermostats(300.0)(None)
    assert scan.taut == pytest.approx(350 * units.fs)
    (adaptive,) = parse_choice("adaptive:5", model, 70.0).thermostats(300.0)(None)
    assert isinstance(adaptive, AdaptiveLangevin)
    noisy = parse_choice("langevin:2+noise", model, 70.0)
    assert noisy.noise
    assert noisy.words == "Langevin 2000 fs, calibrated noise"
    recommended = parse_choice("recommended", model, 70.0).thermostats(300.0)(None)
    expected = model.recommended_thermostat(300.0)
    assert [one.todict() for one in recommended] == [one.todict() for one in expected]


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("noise", "without members"),
        ("csvr+csvr", "twice"),
        ("nose", "unknown part"),
        ("langevin", "needs a time in ps"),
        ("langevin:-1", "must be a positive number"),
        ("csvr:two", "is no number"),
        ("recommended+csvr", "more than the recommended"),
    ],
)
def test_wrong_names_are_refused(model, name, match):
    with pytest.raises(typer.BadParameter, match=match):
        parse_choice(name, model, 70.0)


@pytest.mark.parametrize("name", ["adaptive:2", "langevin:2+csvr+noise"])
def test_an_interrupted_run_gives_the_frames_of_one_that_was_not(
    model, starts, tmp_path, name
):
    whole, interrupted = tmp_path / "whole", tmp_path / "interrupted"
    assert not extend(whole, starts, plan_of(model, name, 3))
    extend(interrupted, starts, plan_of(model, name, 1))
    (interrupted / "chunk-0001.h5.part").write_bytes(b"torn")
    extend(interrupted, starts, plan_of(model, name, 3))
    expected, found = read_seeds(whole), read_seeds(interrupted)
    assert len(found) == len(starts)
    for one, other in zip(found, expected, strict=True):
        assert one.n_frames == 3 * N_STRIDES // 2
        assert one.stride_fs == 2 * model.horizon_fs
        np.testing.assert_array_equal(one.positions, other.positions)
        np.testing.assert_array_equal(one.velocities, other.velocities)
    apart = np.abs(expected[0].positions - expected[1].positions).max()
    assert apart > 1e-3
    later = read_seeds(whole, skip_ps=N_STRIDES * model.horizon_fs * 1e-3)[0]
    assert later.n_frames == 2 * N_STRIDES // 2


def test_frictions_go_on_in_the_next_chunk(model, starts, tmp_path):
    import h5py  # noqa: PLC0415

    extend(tmp_path, starts, plan_of(model, "adaptive:2", 2))
    values = []
    for number in range(2):
        with h5py.File(tmp_path / f"chunk-000{number}.h5") as file:
            values.append(file["frictions-0"][:][:, 6])
    start = 1 / (2000 * units.fs)
    first, second = (np.abs(one - start).max() for one in values)
    # The friction wanders by about as much in each chunk; from anew it would not grow.
    assert first > 0
    assert not np.array_equal(*values)
    assert np.abs(values[1] - values[0]).max() < 3 * max(first, second)


def test_a_run_with_other_settings_is_refused(model, starts, tmp_path):
    extend(tmp_path, starts, plan_of(model, "csvr", 1))
    with pytest.raises(typer.BadParameter, match="now Langevin 2000 fs is asked for"):
        extend(tmp_path, starts, plan_of(model, "langevin:2", 1))


def test_a_check_ends_a_run(model, starts, tmp_path):
    reason = extend(tmp_path, starts, plan_of(model, "csvr", 3), lambda _: "broken")
    assert reason == "seed 0, chunk 0: broken"
    assert len(list(tmp_path.glob("chunk-*.h5"))) == 1


def test_power_laws():
    x = np.array([1.0, 3.0, 10.0, 30.0])
    exact = power_law(x, 2.0 * x**-0.4)
    assert (exact.exponent, exact.factor) == pytest.approx((-0.4, 2.0))
    assert exact.error < 1e-12
    np.testing.assert_allclose(exact(x), 2.0 * x**-0.4)
    assert power_law(x, 1.0 + x**-0.4).error > 0.01  # levels off: no power law
    assert np.isnan(power_law(x[:2], x[:2]).error)
    with pytest.raises(ValueError, match="two points of positive values"):
        power_law(x, x - 1.0)


def test_figures_are_small_or_refused(tmp_path, monkeypatch):
    figure = Figure(figsize=(2.0, 2.0))
    noise = np.random.default_rng(0).random((300, 300))
    figure.add_axes((0.0, 0.0, 1.0, 1.0)).imshow(noise, interpolation="nearest")
    figure.savefig(tmp_path / "large.png", dpi=study_pages.RESOLUTIONS[0])
    limit = (tmp_path / "large.png").stat().st_size // 2
    monkeypatch.setattr(study_pages, "LARGEST_PNG", limit)
    save_small(figure, tmp_path / "small.png")
    assert (tmp_path / "small.png").stat().st_size < limit
    monkeypatch.setattr(study_pages, "LARGEST_PNG", 1000)
    with pytest.raises(ValueError, match="the limit is 1000"):
        save_small(figure, tmp_path / "large.png")


def test_tables_and_numbers():
    assert table(("a", "b"), [("x", "1")]) == "| a | b |\n| --- | ---: |\n| x | 1 |"
    values = {"a": np.array([1.234567, 2.0]), "b": (np.int64(3), True, None)}
    assert plain(values) == {"a": [1.2346, 2.0], "b": [3, True, None]}


def test_the_nearest_pair_of_all_frames_is_found():
    near, far = (molecule("CO", cell=[9.0] * 3, pbc=True) for _ in range(2))
    for atoms, length in ((near, 1.0), (far, 1.3)):
        atoms.set_distance(0, 1, length)
    found = least_distances.ratios([far, near, far])
    assert found == {"C-O": pytest.approx(1.0 / (0.76 + 0.66))}

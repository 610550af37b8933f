"""A whole distillation, in sizes that do not depend on the clock."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from ase.build import bulk
from ase.io import write
from distill_system import Springs, tetrahedron
from rich.console import Console
from typer.testing import CliRunner

from trajcast_ase import load_model
from trajcast_ase.cli.app import app
from trajcast_ase.distill import (
    conduct,
    distill,
    fitting,
    screening,
    speed,
    training_stage,
)
from trajcast_ase.distill.calculators import CalculatorError, CalculatorSpec
from trajcast_ase.distill.card import write_card
from trajcast_ase.distill.effort import BudgetError, FixedEffort
from trajcast_ase.distill.facts import Facts
from trajcast_ase.distill.fitting import Candidate
from trajcast_ase.distill.report_stage import Speeds
from trajcast_ase.distill.request import Fixed, Request
from trajcast_ase.distill.state import STAGES, StateError
from trajcast_ase.distill.workers import cores
from trajcast_ase.trajectory import TrajectoryError

EFFORT = FixedEffort(
    n_md_steps=8_000, n_screening_steps=15, n_training_steps=400, n_strides=220
)
QUIET = Console(quiet=True)
FIXED = Fixed(  # what is left to choose: with or without surroundings
    timestep_fs=5.0,
    horizon_fs=30.0,
    cutoff_A=3.5,
    n_channels=8,
    n_layers=2,
    langevin_fs=1000.0,
)


def call(out, **changes):
    values = {
        "structure": tetrahedron(),
        "calculator": Springs,
        "temperature_K": 300.0,
        "fixed": FIXED,
        "effort": EFFORT,
        "console": QUIET,
    }
    return distill(out=out, **(values | changes))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distilled") / "springs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "MEASURED_S", 0.05)
        patch.setattr(fitting, "PROBED_S", 0.0)
        yield folder, call(folder)


@pytest.mark.slow
def test_all_stages_leave_what_they_promise(done):
    folder, outcome = done
    state = json.loads((folder / "distill.json").read_text())

    assert tuple(state["stages"]) == STAGES
    assert outcome.model == folder / "springs.trajcast"
    model = load_model(outcome.model)
    assert str(model.header.thermostat).startswith("Langevin 1000 fs, CSVR")
    assert model.config.n_channels == 8
    assert outcome.rows > 5
    assert outcome.passes == (outcome.passed == outcome.rows)
    assert outcome.model_speed > 0
    for name in ("report.md", "report.json", "report.png", "choice.md", "choice.csv"):
        assert (folder / name).exists()
    card = outcome.card.read_text()
    assert outcome.verdict[1:] in card
    assert "| training |" in card
    assert not list((folder / "reference").glob("pause-*"))


@pytest.mark.slow
def test_the_same_call_goes_on_and_keeps_finished_stages(done, tmp_path, monkeypatch):
    folder = tmp_path / "springs"
    shutil.copytree(done[0], folder)
    made = []
    monkeypatch.setattr(conduct, "_carry_out", lambda name, _job: made.append(name))

    outcome = call(folder)

    assert made == []
    assert (outcome.verdict, outcome.rows) == (done[1].verdict, done[1].rows)


@pytest.mark.slow
def test_redo_makes_a_stage_again_from_kept_ones(done, tmp_path):
    folder = tmp_path / "springs"
    shutil.copytree(done[0], folder)
    before = json.loads((folder / "distill.json").read_text())

    outcome = call(folder, redo="report")

    after = json.loads((folder / "distill.json").read_text())
    assert after["stages"]["training"] == before["stages"]["training"]
    assert outcome.rows == done[1].rows


@pytest.mark.slow
def test_a_changed_file_is_noticed(done, tmp_path):
    folder = tmp_path / "springs"
    shutil.copytree(done[0], folder)
    with h5py.File(folder / "reference" / "nve-1-01.h5", "r+") as file:
        file["velocities"][3, 0, 0] *= 1.0001

    with pytest.raises(StateError, match=r"nve-1-01.h5 was changed since the stage"):
        call(folder)


@pytest.mark.slow
def test_given_trajectories_take_the_place_of_md(done, tmp_path):
    files = sorted((done[0] / "reference").glob("nve-*.h5"))
    references = sorted((done[0] / "reference").glob("canonical-*.h5"))

    outcome = distill(
        out=tmp_path / "mine",
        trajectories=files,
        references=references,
        fixed=replace(FIXED, timestep_fs=None),
        effort=EFFORT,
        console=QUIET,
    )

    assert outcome.rows == done[1].rows
    assert outcome.calculator_speed is None
    assert "not known" in outcome.card.read_text()


@pytest.mark.slow
def test_trajectories_of_other_temperatures_are_refused(done, tmp_path):
    files = sorted((done[0] / "reference").glob("nve-*.h5"))[:2]
    hot = tmp_path / "hot.h5"
    shutil.copy(files[1], hot)
    with h5py.File(hot, "r+") as file:
        positions = file["positions"][:]
        mean = positions.mean(axis=0)
        file["positions"][:] = mean + 2.5 * (positions - mean)
        file["velocities"][:] = 2.5 * file["velocities"][:]

    with pytest.raises(TrajectoryError, match="a model for one temperature"):
        distill(out=tmp_path / "mine", trajectories=[files[0], hot], console=QUIET)


class StoppedError(Exception):
    """The process is gone."""


@pytest.mark.parametrize("last", STAGES[:-1])
def test_a_kill_between_stages_costs_nothing(tmp_path, monkeypatch, last):
    made = []

    def stage(name, job):
        made.append(name)
        job.state.finish(name, {"name": name}, name, [])
        if name == last and len(made) == STAGES.index(last) + 1:
            raise StoppedError

    monkeypatch.setattr(conduct, "_carry_out", stage)
    monkeypatch.setattr(conduct, "_outcome", lambda _job: "all done")
    with pytest.raises(StoppedError):
        call(tmp_path)

    assert call(tmp_path) == "all done"
    assert tuple(made) == STAGES


@pytest.mark.slow
def test_a_stage_that_was_cut_in_its_middle_goes_on(done, tmp_path, monkeypatch):
    folder = tmp_path / "springs"
    shutil.copytree(done[0], folder)
    real, n_trainings = screening.train, 0

    def train(config):
        nonlocal n_trainings
        n_trainings += 1
        if n_trainings == 2:
            raise StoppedError
        return real(config)

    monkeypatch.setattr(screening, "train", train)
    with pytest.raises(StoppedError):
        call(folder, redo="choice")
    plan = json.loads((folder / "distill.json").read_text())["plans"]["choice"]
    call(folder)

    # The first is not trained again.
    assert len(plan["done"]) == 1
    assert n_trainings == 1 + plan["n_first"]


def test_a_calculator_without_forces_is_refused_before_any_work(tmp_path):
    with pytest.raises(CalculatorError, match="gives no forces"):
        call(tmp_path, calculator=lambda: Springs("energy only"))

    assert not (tmp_path / "reference").exists()


def test_a_budget_far_too_short_is_refused_before_any_trial(tmp_path):
    calculator = Springs()

    with pytest.raises(BudgetError, match=r"40 ps are needed.* give --budget \d+"):
        call(tmp_path, calculator=calculator, effort=None, budget="1s")

    assert calculator.n_calls < 10


def test_other_settings_in_the_same_folder_are_refused(tmp_path):
    with pytest.raises(CalculatorError):
        call(tmp_path, calculator="distill_system:absent")
    # Nothing was done yet, so that nothing is to be protected.
    with pytest.raises(CalculatorError):
        call(tmp_path, calculator="distill_system:missing")


def card_of(folder, atoms):
    """Return the card of a model whose runs broke down."""
    facts = Facts(
        train=(),
        validation=(),
        bath=("a.h5",),
        report=("b.h5",),
        has_thermostat=True,
        temperatures_K=(300.0,),
        stride_fs=2.0,
        fastest_period_fs=40.0,
        timestep_fs=1.0,
        seconds_per_step=0.1,
        calculator_ns_per_day=10.0,
        notes=(),
    )
    result = {
        "verdict": "the runs at 300 K failed: atom 3 (Cu)",
        "passes": False,
        "rows": 0,
        "sharpness": "",
        "failing": [],
        "try": ["train longer"],
        "model_ns_per_day": 100.0,
        "calculator_ns_per_day": 10.0,
    }
    stages = {name: {"line": name, "result": result} for name in STAGES}
    stages["choice"]["result"] = Candidate(15, 3.5, None, 8, 2).to_plain()
    state = SimpleNamespace(stages=stages, seconds={})
    spec = CalculatorSpec("emt")
    request = Request(folder, atoms, spec, temperatures_K=(300.0,))
    return write_card(request, facts, state, "copper.trajcast").read_text()


def test_the_card_of_runs_that_broke_down_names_no_report(tmp_path):
    card = card_of(tmp_path, tetrahedron())

    assert "**The runs at 300 K failed: atom 3 (Cu)**." in card
    assert "report.md" not in card
    assert "larger cells" not in card


def test_the_card_of_a_crystal_says_how_large_its_cell_was(tmp_path):
    card = card_of(tmp_path, bulk("Cu", cubic=True) * (3, 3, 4))

    assert "## In larger cells" in card
    assert "144 atoms in a cell that is 10.8 Å wide" in card
    assert "a stride sees 7 Å to every side" in card


def test_break_even_is_where_both_have_taken_as_long():
    speeds = Speeds(model=100.0, calculator=10.0)

    after = speeds.breaks_even(8640.0)

    assert np.isclose(after / 10.0, 0.1 + after / 100.0)
    assert Speeds(5.0, 10.0).breaks_even(1.0) is None
    assert Speeds(5.0, None).breaks_even(1.0) is None


def run_command(*arguments):
    return CliRunner().invoke(app, ["distill", *map(str, arguments)])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--calculator", "emt"], "--temperature"),
        (["--temperature", "350-280"], "no range that ascends"),
        (["--temperature", "300"], "needs --calculator"),
        (["--temperature", "300", "--budget", "soon"], "is no time"),
        (["--trajectories", "none-*.h5"], "matches no file"),
        (
            ["--temperature", "300", "--calculator", "emt", "--calculator-option", "a"],
            "name=value",
        ),
        (
            ["--temperature", "300", "--calculator", "emt", "--budget", "1s"],
            "40 ps are needed for 2 canonical runs and the training; give --budget",
        ),
    ],
)
def test_bad_input_is_one_line(tmp_path, arguments, match):
    start = tmp_path / "start.xyz"
    write(start, tetrahedron())

    result = run_command(start, "--out", tmp_path / "out", *arguments)

    assert result.exit_code == 1
    (line,) = [one for one in result.output.splitlines() if one.startswith("error")]
    assert match in line


def test_names_with_brackets_or_at_signs_are_files(tmp_path):
    (tmp_path / "nve[1].xyz").write_text("none")
    result = run_command(
        "--trajectories", tmp_path / "nve[1].xyz", "--out", tmp_path / "out"
    )
    assert "nve[1].xyz: line 1 is 'none'" in result.output
    write(tmp_path / "Cu@cage.xyz", tetrahedron()[:1])
    result = run_command(
        *(tmp_path / "Cu@cage.xyz", "--calculator", "emt", "--temperature", 300),
        *("--out", tmp_path / "out"),
    )
    assert "the structure has fewer than two atoms" in result.output


@pytest.mark.slow
def test_a_range_of_temperatures_and_more_md(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "MEASURED_S", 0.05)
    monkeypatch.setattr(fitting, "PROBED_S", 0.0)
    monkeypatch.setattr(training_stage, "PEEKED_GAP", 0.0)  # data limit, whatever

    outcome = call(
        tmp_path / "springs",
        temperature_K=(250.0, 350.0),
        fixed=replace(FIXED, langevin_fs=500.0),
        effort=replace(
            EFFORT, n_md_steps=18_000, n_training_steps=700, n_extra_md_steps=1_000
        ),
    )

    folder = tmp_path / "springs"
    state = json.loads((folder / "distill.json").read_text())
    facts = state["stages"]["reference"]["result"]
    assert facts["temperatures_K"] == [250.0, 300.0, 350.0]
    assert (len(facts["bath"]), len(facts["report"])) == (3, 3)
    assert set(facts["bath"]) < set(facts["train"])
    assert not set(facts["report"]) & set(facts["train"])
    assert (
        "for the bath, which is learnt from, too"
        in state["stages"]["reference"]["line"]
    )
    training = state["stages"]["training"]
    assert "more NVE runs were made half-way" in training["line"]
    header = load_model(outcome.model).header
    more = [name for name in training["files"] if "/more-" in name]
    assert more
    assert header.training["runs"] == len(facts["train"]) + len(more)
    assert "started_from" in header.training
    kelvins = header.training["run_temperatures_K"]
    assert min(kelvins) < 290
    assert max(kelvins) > 310
    for kelvin in (250, 300, 350):
        assert (folder / f"report-{kelvin}K" / "report.md").exists()
        assert f"[{kelvin} K](report-{kelvin}K/report.md)" in outcome.card.read_text()
    assert outcome.rows > 20  # of three reports


@pytest.mark.slow
@pytest.mark.skipif(cores() < 2, reason="two processes want two cores")
def test_two_processes_make_md_and_screen(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "PROBED_S", 0.0)
    monkeypatch.setattr(conduct, "_outcome", lambda _job: None)
    real = conduct._carry_out

    def only_choice(name, job):
        if name in {"reference", "choice"}:
            real(name, job)

    monkeypatch.setattr(conduct, "_carry_out", only_choice)
    call(tmp_path, processes=2, effort=replace(EFFORT, n_md_steps=5_000))

    rows = list(csv.DictReader((tmp_path / "choice.csv").read_text().splitlines()))
    assert len(rows) == 2
    assert all(0.0 < float(row["growth (% per ps)"]) < 1e6 for row in rows)
    assert not (tmp_path / "screening").exists()

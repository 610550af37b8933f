"""What validation reads and writes, and the command."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from trajcast_ase.cli.app import app
from trajcast_ase.validation.inputs import (
    bundled_references,
    load_reference,
    observe_both,
    read_run,
)
from trajcast_ase.validation.observables import observe
from trajcast_ase.validation.report import compare
from trajcast_ase.validation.storage import load_observables, save_observables

from .conftest import PIECE_FS, drawn_frames, write

COMMAND = ("validate", "--out")


@pytest.fixture
def runs(methane, tmp_path) -> list[Path]:
    """Return two runs at 300 K, and one that is hotter than it says."""
    return [
        write(drawn_frames(methane, seed, kelvin=kelvin), tmp_path / f"run-{seed}.h5")
        for seed, kelvin in ((1, 300.0), (2, 300.0), (3, 400.0))
    ]


def test_observables_survive_a_file(methane, tmp_path):
    frames = replace(drawn_frames(methane, 1), stride_fs=9.876543)
    before = observe(frames, PIECE_FS, temperature_K=300.0)
    save_observables(before, tmp_path / "one.json")
    after = load_observables(tmp_path / "one.json")
    assert after.conditions == before.conditions
    assert after.piece_fs == before.piece_fs
    assert after.n_pieces == before.n_pieces
    for name, curve in before.curves.items():
        np.testing.assert_allclose(
            after.curves[name].pieces, curve.pieces, rtol=5e-3, atol=1e-12
        )
    np.testing.assert_array_equal(after.topology.pairs, before.topology.pairs)
    assert (after.bands_cm, after.run_pieces) == (before.bands_cm, before.run_pieces)
    assert compare(after, before).passes


def test_bundled_references_hold_all_systems_and_short_pieces_of_one():
    names = ["ethanol", "paracetamol", "paracetamol-short", "quartz", "water"]
    assert bundled_references() == names
    for name in bundled_references():
        reference = load_reference(name)
        assert reference is not None
        pieces = reference.scalars["temperature"].pieces
        error = pieces.std(ddof=1) / np.sqrt(len(pieces))
        assert abs(pieces.mean() - 300.0) < 5 * error
        assert reference.conditions.temperature_K == 300.0


def test_pieces_of_two_runs_are_alike(runs):
    one, other = read_run(runs[0]), read_run(runs[1], skip_ps=5.0)
    ours, theirs = observe_both(one, other)
    # A twentieth of the shorter run is less than the window of a spectrum.
    assert ours.piece_fs == theirs.piece_fs == 1400.0
    assert (ours.n_pieces, theirs.n_pieces) == (10, 7)
    assert one.temperature_K == 300.0


def test_command_passes_runs_of_one_ensemble(runs, tmp_path):
    outcome = CliRunner().invoke(
        app,
        [*COMMAND, str(tmp_path / "report"), str(runs[0]), "--reference", str(runs[1])],
    )
    assert outcome.exit_code == 0, outcome.output
    report = json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
    assert report["passes"]
    assert all(row["passes"] for row in report["rows"])
    for suffix in ("md", "png", "pdf"):
        assert (tmp_path / "report" / f"report.{suffix}").stat().st_size > 1000


def test_command_fails_a_hot_run(runs, tmp_path):
    saved = tmp_path / "new" / "reference.json"
    runner = CliRunner()
    outcome = runner.invoke(
        app,
        ["validate", str(runs[0]), "--piece", "1.5", "--write-observables", str(saved)],
    )
    assert outcome.exit_code == 0, outcome.output
    outcome = runner.invoke(
        app,
        [*COMMAND, str(tmp_path / "report"), str(runs[2]), "--reference", str(saved)],
    )
    assert outcome.exit_code == 3, outcome.output
    text = (tmp_path / "report" / "report.md").read_text("utf-8")
    assert "rows fail" in text
    assert "**fail**" in text


def test_command_judges_several_runs_together(methane, tmp_path):
    runs = [
        str(write(drawn_frames(methane, seed), tmp_path / f"run-{seed}.h5"))
        for seed in range(1, 6)
    ]
    options = ["--reference", runs[3], "--reference", runs[4]]
    outcome = CliRunner().invoke(
        app, [*COMMAND, str(tmp_path / "report"), *runs[:3], *options]
    )
    assert outcome.exit_code == 0, outcome.output
    report = json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
    assert (report["n_runs"], report["reference_n_runs"]) == (3, 2)
    assert report["length_ps"] == pytest.approx(3 * report["reference_length_ps"] / 2)
    tested = [row["memory"] for row in report["rows"] if row["memory"]]
    assert all(memory["run_scatter"] is not None for memory in tested)
    assert "ps in 3 runs (30 pieces" in " ".join(outcome.output.split())


def test_observables_are_a_whole_reference(runs, tmp_path):
    saved = str(tmp_path / "one.json")
    runner = CliRunner()
    runner.invoke(app, ["validate", str(runs[0]), "--write-observables", saved])
    outcome = runner.invoke(
        app,
        ["validate", str(runs[1]), "--reference", saved, "--reference", str(runs[0])],
    )
    assert outcome.exit_code == 1
    assert "holds observables, which are a whole reference" in outcome.output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["{run}"], "give --reference, --write-observables, or both"),
        (["--reference", "water"], "give either a trajectory or --model"),
        (["{run}", "--reference", "nowhere.h5"], "there is no file nowhere.h5"),
        (["{run}", "--reference", "water"], "composition"),
        (["{run}", "--reference", "{run}", "--temperature", "350"], "keeps 300 K"),
        (["{run}", "--reference", "{run}", "--skip", "99"], "would leave out all"),
        (["--model", "paracetamol-7fs", "--reference", "water"], "needs --start"),
    ],
)
def test_command_refuses(runs, tmp_path, monkeypatch, arguments, text):
    monkeypatch.chdir(tmp_path)
    filled = [one.format(run=runs[0]) for one in arguments]
    outcome = CliRunner().invoke(app, ["validate", *filled])
    assert outcome.exit_code == 1
    assert text in outcome.output


def test_unreadable_observables_are_refused(tmp_path):
    path = tmp_path / "some.json"
    path.write_text('{"format": "else", "version": 1}', encoding="utf-8")
    with pytest.raises(ValueError, match="not 'trajcast-observables'"):
        load_observables(path)
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match="holds no observables"):
        load_observables(path)

"""Distillations that go on from the weights of another model."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ase.build import molecule
from distill_system import Springs, tetrahedron
from rich.console import Console

from trajcast_ase import load_model
from trajcast_ase.distill import distill, fitting, speed
from trajcast_ase.distill.calculators import CalculatorSpec
from trajcast_ase.distill.effort import FixedEffort
from trajcast_ase.distill.request import Fixed, Request
from trajcast_ase.distill.start import COPY, Start
from trajcast_ase.distill.state import StateError
from trajcast_ase.models.model_header import ModelFileError, read_header

EFFORT = FixedEffort(
    n_md_steps=8_000, n_screening_steps=15, n_training_steps=200, n_strides=220
)


class Softer(Springs):
    """The cheaper engine: springs that are not quite the others."""

    def calculate(self, *arguments, **options):
        super().calculate(*arguments, **options)
        self.results["energy"] *= 0.9
        self.results["forces"] *= 0.9


def call(out, calculator, **changes):
    return distill(
        tetrahedron(),
        calculator,
        out=out,
        temperature_K=300.0,
        effort=EFFORT,
        console=Console(quiet=True),
        **changes,
    )


@pytest.fixture(scope="module")
def cheap(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cheap") / "soft"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "MEASURED_S", 0.05)
        patch.setattr(fitting, "PROBED_S", 0.0)
        fixed = Fixed(5.0, 30.0, 3.5, 8, 2, 1000.0)
        yield call(folder, Softer, fixed=fixed).model


@pytest.mark.slow
def test_network_and_weights_are_those_of_the_start(cheap, tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "MEASURED_S", 0.05)
    monkeypatch.setattr(fitting, "PROBED_S", 0.0)
    moved = tmp_path / "moved.trajcast"
    shutil.copy(cheap, moved)
    outcome = call(
        tmp_path / "out",
        Springs,
        init=moved,
        fixed=Fixed(timestep_fs=5.0, langevin_fs=1000.0),
    )

    first, header = load_model(cheap), read_header(outcome.model)
    assert header.horizon_fs == 30.0
    assert header.config["n_channels"] == 8
    assert header.training["started_from"]["sha256"] == first.header.sha256
    # A constant of the data that the weights belong to stays.
    assert header.config["velocity_rms"] == first.config.velocity_rms
    assert not torch.equal(
        load_model(outcome.model).readout.weight, first.readout.weight
    )
    assert (tmp_path / "out" / COPY).read_bytes() == cheap.read_bytes()
    state = json.loads((tmp_path / "out" / "distill.json").read_text())
    assert state["identity"]["init"] == first.header.sha256
    assert "those of" in state["stages"]["choice"]["line"]
    assert not (tmp_path / "out" / "choice.md").exists()
    with pytest.raises(StateError, match="begun with init = "):
        call(
            tmp_path / "out", Springs, fixed=Fixed(5.0, None, None, None, None, 1000.0)
        )


def request(**changes):
    values = {
        "atoms": molecule("CH3CH2OH"),
        "calculator": CalculatorSpec("emt"),
        "temperatures_K": (300.0,),
        "start": Start.read("ethanol-gfn2"),
    }
    return Request(out=Path("out"), **(values | changes))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"atoms": molecule("H2O")}, "knows H, C, O, the system has H, O; .* leave"),
        ({"fixed": Fixed(horizon_fs=5.0)}, "--horizon and --init: .* of ethanol-gfn2"),
        ({"fixed": Fixed(n_layers=2)}, "--layers and --init"),
        ({"fixed": Fixed(timestep_fs=1.0)}, "--timestep 1 does not divide .* 0.928571"),
    ],
)
def test_what_a_start_decides_or_does_not_know_is_refused(changes, match):
    assert request().start is not None
    request(fixed=Fixed(timestep_fs=0.5))
    with pytest.raises(ValueError, match=match):
        request(**changes)


def test_a_start_that_is_none(tmp_path):
    with pytest.raises(ModelFileError, match="unknown model 'ethanol-dft'"):
        call(tmp_path, Springs, init="ethanol-dft")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("timestep_fs", "frame_steps", "wanted"),
    [
        (0.5, 1, (0.5, 1)),  # 6.5 fs are 13 steps
        (0.5, 12, (0.5, 1)),
        (0.5, 20, (0.5, 13)),
        (1.0, 3, (6.5 / 7, 1)),
        (1.1, 4, (6.5 / 6, 3)),
    ],
)
def test_frames_are_such_that_the_horizon_is_whole(timestep_fs, frame_steps, wanted):
    start = Start.read("ethanol-gfn2")
    assert start.grid(timestep_fs, frame_steps) == pytest.approx(wanted)
    step, n_steps = start.grid(timestep_fs, frame_steps)
    assert start.candidate(step * n_steps).n_channels == 16


def test_a_start_that_names_no_surroundings_has_none():
    start = Start.read("ethanol-gfn2")
    older = {k: v for k, v in start.header.config.items() if "surroundings" not in k}
    one = replace(start, header=replace(start.header, config=older)).candidate(6.5)
    assert one == start.candidate(6.5)
    assert one.surroundings_A is None


def test_frames_that_do_not_fit_the_horizon_are_refused():
    with pytest.raises(ValueError, match=r"no multiple of the 2 fs between frames"):
        Start.read("ethanol-gfn2").candidate(2.0)

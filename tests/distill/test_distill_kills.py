"""A distillation that is killed in every stage comes to the same result."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trajcast_ase.models.model_header import read_header
from trajcast_ase.trajectory import read_frames

SCRIPT = """
import sys
sys.path.insert(0, {here!r})
from rich.console import Console
from distill_system import Springs, tetrahedron
from trajcast_ase.distill import distill, fitting, screening, speed
from trajcast_ase.distill.effort import FixedEffort
from trajcast_ase.distill.request import Fixed

speed.MEASURED_S, fitting.PROBED_S = 0.05, 0.0
screening.model_speed = lambda *_: 100.0  # a busy machine decides nothing
distill(
    tetrahedron(),
    Springs,
    out=sys.argv[1],
    temperature_K=300.0,
    fixed=Fixed(timestep_fs=5.0, horizon_fs=30.0, cutoff_A=3.5, n_channels=8,
                n_layers=2),
    effort=FixedEffort(5_000, 8, 300, 220),
    console=Console(quiet=True),
)
"""
SIGNS = (
    "reference/trial-5fs*.h5.part",
    "reference/piece-1-01.h5.part",
    "screening/*/checkpoint.safetensors",
    "training/first/checkpoint.safetensors",
    "bath/*/run.checkpoint",
    "runs/*/run.checkpoint",
)
"""Files whose appearance shows that a stage has begun."""


def start(script, folder):
    return subprocess.Popen([sys.executable, str(script), str(folder)])


def kill_when(process, folder, sign):
    """Kill a process soon after a file appears; return whether it was in time."""
    while process.poll() is None:
        if list(folder.glob(sign)):
            process.kill()
            break
        time.sleep(0.02)
    return process.wait() != 0


@pytest.mark.slow
def test_kills_in_every_stage_change_no_result(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(here=str(Path(__file__).parent)))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert start(script, whole).wait() == 0

    killed = [kill_when(start(script, cut), cut, sign) for sign in SIGNS]
    assert start(script, cut).wait() == 0

    assert all(killed)
    for path in (whole / "reference").glob("*.h5"):
        wanted, found = read_frames(path), read_frames(cut / "reference" / path.name)
        assert (found.positions == wanted.positions).all()
        assert (found.velocities == wanted.velocities).all()
    stages = [
        json.loads((one / "distill.json").read_text())["stages"] for one in (whole, cut)
    ]
    for name in ("choice", "training", "bath"):
        first, second = (
            {k: v for k, v in one[name]["result"].items() if k != "model"}
            for one in stages
        )
        assert first == second
    for key in ("passed", "rows", "failing"):
        first, second = (one["report"]["result"][key] for one in stages)
        assert first == second
    errors = [
        read_header(one / f"{one.name}.trajcast").errors["velocity"]
        for one in (whole, cut)
    ]
    assert errors[0] == errors[1]

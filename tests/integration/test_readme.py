"""The README does what it says: its blocks are found, and its Python runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ase.io import read

from trajcast_ase import available_models

README = Path(__file__).parents[2] / "README.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STRIDES = "dyn.run(10_000)"


def blocks(language: str, text: str) -> list[str]:
    return [code for name, code in FENCE.findall(text) if name == language]


def test_quick_start_is_two_command_lines():
    text = README.read_text(encoding="utf-8")
    section = text.split("\n## Quick start\n")[1].split("\n## ")[0]
    main_job, tests = blocks("sh", section)
    assert main_job.strip().endswith("trajcast demo")
    assert tests.strip().endswith("pytest -n auto")
    for line in (main_job, tests):
        assert line.count("\n") == 1
        assert line.startswith("python3 -m venv .venv && . .venv/bin/activate && ")
    assert len(blocks("sh", text)) == 2


def test_every_fence_names_its_language():
    text = README.read_text(encoding="utf-8")
    assert {name for name, _ in FENCE.findall(text)} <= {"sh", "bash", "python", "toml"}


def test_links_to_files_of_the_repository_lead_somewhere():
    text = README.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", text)
    missing = [name for name in targets if not (README.parent / name).exists()]
    assert targets
    assert missing == []


@pytest.mark.skipif(
    "paracetamol-7fs" not in available_models(), reason="the model is not bundled"
)
def test_python_blocks_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("ase", minversion="3.29", reason="thermalize_momenta")
    monkeypatch.chdir(tmp_path)
    code = "\n".join(blocks("python", README.read_text(encoding="utf-8")))
    assert code.count(STRIDES) == 1
    names: dict[str, Any] = {}
    exec(compile(code.replace(STRIDES, "dyn.run(5)"), README.name, "exec"), names)  # noqa: S102  the README's own code
    names["dyn"].close()
    assert len(read(tmp_path / "md.traj", index=":")) == 6
    assert (tmp_path / "md.log").read_text(encoding="utf-8").count("\n") == 7
    n_dof, kelvin = capsys.readouterr().out.split()
    assert int(n_dof) == 54
    assert 50.0 < float(kelvin) < 900.0

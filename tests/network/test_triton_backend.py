"""The choice of the backend "triton", which no card has measured."""

import pytest
import torch
from helpers import small_model

from trajcast_ase.network.backend import BackendError
from trajcast_ase.network.backends import automatic
from trajcast_ase.network.triton import backend, programs
from trajcast_ase.network.triton.backend import Triton

CARD, CPU = torch.device("cuda"), torch.device("cpu")


def test_it_computes_on_cards_and_in_the_interpreter(monkeypatch):
    monkeypatch.delenv(programs.SWITCH, raising=False)
    assert Triton().computes_on(CARD)
    assert not Triton().computes_on(CPU)
    with pytest.raises(ValueError, match="the backend 'triton' does not compute"):
        small_model().set_backend("triton")
    monkeypatch.setenv(programs.SWITCH, "1")
    assert Triton().computes_on(CPU)
    assert not Triton().computes_on(torch.device("meta"))


def test_auto_leaves_it_out(monkeypatch):
    monkeypatch.setenv(programs.SWITCH, "1")
    assert automatic(CARD).name == "reference"
    assert automatic(CPU).name in {"cpp", "reference"}


@pytest.mark.usefixtures("interpreter")
def test_by_name():
    model = small_model().set_backend("triton")
    assert model.backend == Triton()
    assert model.set_backend(Triton(precision="tf32x3")).backend.name == "triton"


def test_without_the_package(monkeypatch):
    monkeypatch.setattr(backend, "find_spec", {}.get)
    monkeypatch.setenv(programs.SWITCH, "1")
    with pytest.raises(BackendError, match=r"needs the package triton.*'reference'"):
        small_model().set_backend("triton")


@pytest.mark.parametrize(
    ("text", "expected"), [("1", True), ("true", True), ("0", False), ("", False)]
)
def test_the_switch_is_read_as_triton_reads_it(monkeypatch, text, expected):
    triton = pytest.importorskip("triton")
    monkeypatch.setenv(programs.SWITCH, text)
    assert programs.is_interpreted() is expected
    assert triton.knobs.runtime.interpret is expected

"""What is timed on GPUs, small: it agrees with float64, and is counted right."""

import importlib.util
import os
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import typer
from e3nn import o3
from helpers import random_state, small_model

from trajcast_ase.neighbors import find_edges
from trajcast_ase.network import ForecasterConfig
from trajcast_ase.network.backend import Reference
from trajcast_ase.network.irreps import ProductRule, all_irreps, harmonics_irreps
from trajcast_ase.network.triton.backend import Triton

FOLDER = Path(__file__).parents[1] / "benchmarks" / "speed"
if not FOLDER.exists():
    pytest.skip("needs the source tree", allow_module_level=True)
# Last: the folder has a run.py, as others do.
sys.path.append(str(FOLDER))

import gpu_summary  # noqa: E402
from convolutions import Convolution, libraries  # noqa: E402
from gpu_calls import Contestant, Problem, measured, torch_alone  # noqa: E402
from gpu_rivals import convolution_rows  # noqa: E402
from gpu_verdict import conclusion, judged, network_verdict  # noqa: E402
from journal import LOST, Journal  # noqa: E402
from marks import MARKS_MS, mark_of, mark_of_batch  # noqa: E402
from output import write_csv  # noqa: E402
from roofline import (  # noqa: E402
    CARDS,
    Size,
    card_of,
    least_ms,
    rows_out,
    terms,
    works,
)


@pytest.mark.usefixtures("interpreter")
def test_rows_of_a_tiny_network():
    model = small_model(lmax=1, n_layers=1, surroundings_cutoff=5.0)
    state = random_state(np.random.default_rng(1), 2)
    contestants = [torch_alone(), Contestant("ours", Triton())]
    rows = list(measured(Problem.of(model, state), contestants, 1))
    assert len(rows) == 2 * 2 * 2
    for row in rows:
        if row["graph"]:
            assert row["note"] == "CUDA graphs need a card"
        else:
            assert row["error"] < 1e-5
            assert row["same_bits"]
            assert row["ms"] > 0.0


class Broken(Triton):
    """Its kernels fail."""

    def layers(self, network, outputs):
        made = super().layers(network, outputs)

        def fail(*_):
            raise RuntimeError("out of registers\nand more")

        return made.__class__(made.layers, None, made.owners, made.version, fail)


@pytest.mark.usefixtures("interpreter")
def test_what_fails_is_said_in_its_row():
    state = random_state(np.random.default_rng(1), 2)
    problem = Problem.of(small_model(lmax=1, n_layers=1), state)
    row, _ = measured(problem, [Contestant("ours", Broken())], 1)
    assert row["note"] == "RuntimeError: out of registers"
    assert "ms" not in row


HEAD = "system,network,part,contestant,graph,ms,error,same_bits,note"
STRIDES = "system,network,replicas,backend,engine,ms,error,same_bits,note"


def tables(folder, *, error="2e-6", triton_ms="0.5", note="", same="True"):
    """Write the tables that a card would leave, of one system."""
    ours = f"{triton_ms},{error},{same}," if not note else f",,,{note}"
    network = [HEAD]
    for graph in ("False", "True"):
        network.append(f"quartz,paper,network,reference,{graph},1.0,1e-6,True,")
        network.append(f'quartz,paper,network,"triton, ieee, tables",{graph},{ours}')
        network.append(
            f'quartz,paper,network,"triton, tf32, tables",{graph},0.1,4e-3,True,'
        )
    strides = [STRIDES]
    for engine, time in (("host", 4.0), ("device", 2.0)):
        strides.append(f"quartz,paper,1,reference,{engine},{time},1e-8,True,")
        strides.append(f"quartz,paper,1,triton,{engine},{time / 2},1e-7,True,")
        # Without a deviation: there was no room for float64.
        strides.append(f"water,paper,1,triton,{engine},{time / 2},,True,")
    folder.joinpath("gpu.csv").write_text("\n".join(network) + "\n")
    folder.joinpath("gpu_strides.csv").write_text("\n".join(strides) + "\n")


def test_one_look_tells_that_triton_is_right_and_faster(tmp_path):
    tables(tmp_path)
    found = judged(tmp_path)
    said = found["says"]
    assert said[0] == (
        "triton, network as single launches: 1 of 1 cases agree to 1e-05 (worst "
        "2.0e-06), 1 repeat their bits; faster than torch in 1 of 1, 2.00 times (2.00 "
        "to 2.00)"
    )
    assert "engine device, backend triton: 1 of 1" in "\n".join(said)
    assert said[-1].startswith("triton is right and faster in every case")
    assert found["verdicts"][0]["speedup"] == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"error": "3e-3"},
            "not shown to be right everywhere (triton",
        ),
        (
            {"same": "False"},
            "not shown to be right everywhere (triton",
        ),
        (
            {"note": "RuntimeError: out"},
            "not shown to be right everywhere (triton",
        ),
        ({"triton_ms": "1.5"}, "right, but not faster everywhere (triton, network"),
    ],
)
def test_one_look_tells_what_is_wrong_with_triton(tmp_path, changes, said):
    tables(tmp_path, **changes)
    lines = judged(tmp_path)["says"]
    assert said in lines[-1]
    assert ("  failed: quartz, paper, network: RuntimeError: out" in lines) == (
        "note" in changes
    )


def test_what_was_not_measured_is_no_verdict(tmp_path):
    assert judged(tmp_path)["says"][-1].startswith("triton was not measured")
    assert conclusion([network_verdict([], graph=True)]).startswith("triton was not")


def convolution() -> Convolution:
    """Return the second layer of a small network, in float64."""
    model = small_model("direction", n_layers=2)
    state = random_state(np.random.default_rng(1), 7)
    return Convolution.of(model, find_edges(state, model.config.cutoff), 7)


def test_the_sums_of_all_libraries_are_ours():
    given = convolution()
    exact = given.exact()
    entry = libraries(given, {"reference": Reference()})["reference"]()
    np.testing.assert_allclose(entry.read(entry.call()), exact, rtol=1e-12, atol=1e-12)
    entry = given.by_e3nn()
    # Its couplings have seven digits.
    np.testing.assert_allclose(entry.read(entry.call()), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(
    importlib.util.find_spec("cuequivariance_torch") is None, reason="not installed"
)
@pytest.mark.filterwarnings("ignore")
def test_the_sums_of_cuequivariance_are_ours():
    given = convolution()
    entry = given.by_cuequivariance()
    found = entry.read(entry.call())
    np.testing.assert_allclose(found, given.exact(), rtol=1e-12, atol=1e-12)


class FakeConvolution:
    """What OpenEquivariance promises of its fused convolution, by e3nn."""

    def __init__(self, problem, *, deterministic):
        assert deterministic
        self.product = problem

    def reorder_weights_from_e3nn(self, weights):
        return weights

    def __call__(self, x, harmonics, weights, *routes):
        receivers, senders, by_sender = routes
        assert (receivers.diff() >= 0).all()
        assert (senders[by_sender].diff() >= 0).all()
        messages = self.product(x[senders], harmonics, weights)
        sums = messages.new_zeros(len(x), messages.shape[1])
        return sums.index_add(0, receivers, messages)


def test_openequivariance_is_asked_for_our_sums(monkeypatch):
    fake = ModuleType("openequivariance")
    fake.TPProblem = lambda *a, **k: o3.TensorProduct(*a, **k).double()
    fake.TensorProductConv = FakeConvolution
    monkeypatch.setitem(sys.modules, "openequivariance", fake)
    given = convolution()
    entry = given.by_openequivariance()
    found = entry.read(entry.call())
    np.testing.assert_allclose(found, given.exact(), rtol=1e-5, atol=1e-5)


def test_a_library_that_is_missing_has_a_row_that_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "openequivariance", None)
    monkeypatch.setitem(sys.modules, "cuequivariance_torch", None)
    model = small_model("direction", n_layers=2)
    problem = Problem.of(model, random_state(np.random.default_rng(1), 7))
    rows = {row["contestant"]: row for row in convolution_rows(problem, 1)}
    for name in ("cuEquivariance", "OpenEquivariance"):
        assert rows[name]["note"] == "not installed"


PAPER = {
    "elements": (1, 8),
    "horizon_fs": 5.0,
    "cutoff": 6.0,
    "displacement_rms": 0.05,
    "velocity_rms": 0.01,
    "avg_num_neighbors": 90.0,
    "velocity_encoding": "direction",
}


def test_the_work_of_the_papers_network():
    first, later = (ProductRule(ir, 2) for ir in (harmonics_irreps(2), all_irreps(2)))
    assert (first.n_paths, rows_out(first)) == (15, 51)
    assert (later.n_paths, rows_out(later), terms(later)) == (30, 102, 258)
    config = ForecasterConfig(**PAPER)
    *_, third, _ = works(config, Size(0, 1, 0))
    # 258 + 102 multiply-adds, and 30 cubics, of 64 channels.
    assert third.flop == 64 * (2 * 360 + 6 * 30)
    *_, third, _ = works(config, Size(1, 0, 0))
    dense = 102 + 102 + 5 * 3 * 4 + 18  # maps, gates of 5 irreps, residual
    assert third.flop == pytest.approx(2 * 64**2 * dense, rel=0.25)
    edges = 138_240  # of 1536 atoms of water
    everything = Size(1536, edges, 0)
    halved, *rest = works(config, everything)
    assert halved.flop < 0.75 * rest[0].flop
    assert sum(work.flop for work in works(config, everything)) == pytest.approx(
        38e9, rel=0.05
    )


def test_the_least_time_is_that_of_what_is_slower():
    config, card = ForecasterConfig(**PAPER), CARDS["H200"]
    size = Size(1536, 138_240, 0)
    flop = sum(work.flop for work in works(config, size))
    assert least_ms(config, size, card) == pytest.approx(1e3 * flop / card.flop_per_s)
    slow = card.__class__(card.flop_per_s, 1e9, "")
    moved = sum(work.n_bytes for work in works(config, size))
    assert least_ms(config, size, slow) == pytest.approx(1e3 * moved / 1e9)
    around = ForecasterConfig(**PAPER | {"surroundings_cutoff": 9.0})
    more = least_ms(around, Size(1536, 138_240, 500_000), card)
    assert more > least_ms(around, Size(1536, 138_240, 0), card)
    assert card_of("NVIDIA H200") is card
    assert card_of("some other card") is None


def test_marks():
    mark = mark_of("water-1536", "paper")
    assert [mark.reached(ms) for ms in (2.9, 3.1, 6.1)] == ["second", "first", "no"]
    assert mark_of("water-1536", "shipped").first == 2.0
    assert str(mark_of("quartz-162", "paper")) == "0.7 / 0.25"
    assert mark_of("quartz-34992", "paper") is None
    assert mark_of("paracetamol", "paper", 64) is None
    # 64 replicas in 2.1 times the time of one make 30 times its strides.
    assert mark_of_batch(1.0).reached(64 / 30 - 0.01) == "first"
    assert mark_of_batch(1.0).reached(64 / 30 + 0.01) == "no"


@pytest.fixture(scope="module")
def everything():
    """Return the module of the one command."""
    path = FOLDER.parent / "gpu.py"
    spec = importlib.util.spec_from_file_location("all_on_a_gpu", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_all_on_a_card_takes_less_than_ten_minutes(everything):
    parts = everything.parts("cuda", Path("out"))
    assert sum(part.limit_s + everything.GRACE_S for part in parts) < 590
    trial = everything.parts("cpu", Path("out"))
    assert [p.name for p in trial[1:]] == [p.name for p in parts[3:]]
    assert all(Path(part.arguments[0]).exists() for part in parts[3:])
    root = FOLDER.parents[1]
    marked = {
        str(path.relative_to(root))
        for path in root.glob("tests/**/test_*.py")
        if re.search(
            r"^pytestmark = .*?mark\.gpu", path.read_text(), re.DOTALL | re.MULTILINE
        )
    }
    assert marked == set(everything.TESTS_OF_A_CARD)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_one_sentence_says_so(everything, tmp_path):
    with pytest.raises(typer.BadParameter, match=r"no CUDA device.* --device cpu"):
        everything.main("cuda", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_part_that_loses_the_card_goes_on_in_a_new_process(everything, tmp_path):
    script = tmp_path / "part.py"
    script.write_text(
        f"import sys; sys.exit(0 if 'go-on' in str(sys.argv) else {LOST})"
    )
    part = everything.Part("a part", (str(script),), 60.0, measures=True)
    ending = everything.carried_out(part, tmp_path)
    assert ending.status == 0
    assert ending.command == f"{script} --go-on"
    tests = everything.Part("tests", (str(script),), 60.0)
    assert everything.carried_out(tests, tmp_path).status == LOST


def test_a_part_that_takes_too_long_is_interrupted(everything, tmp_path):
    script = tmp_path / "part.py"
    script.write_text("import time; time.sleep(60)")
    part = everything.Part("part", (str(script),), 0.5, measures=True)
    ending = everything.carried_out(part, tmp_path)
    assert ending.status == everything.TIME_IS_UP
    assert ending.seconds < 30.0


def test_what_fails_in_a_unit_leaves_the_rows_before(tmp_path):
    def bad():
        yield {"ms": 2.0}
        raise RuntimeError("out of registers\nand more")

    columns = ("unit", "ms", "note")
    kept = Journal(tmp_path / "t", columns, "cpu", head="a machine", tail="the end")
    kept.measure(("a",), {"unit": "a"}, bad)
    again = Journal(tmp_path / "t", columns, "cpu", go_on=True)
    for unit in ("a", "b"):
        again.measure((unit,), {"unit": unit}, lambda: [{"ms": 1.0}])
    rows = gpu_summary.read(tmp_path / "t.csv")
    assert rows == [
        {"unit": "a", "ms": 2.0},
        {"unit": "a", "note": "RuntimeError: out of registers"},
        {"unit": "b", "ms": 1.0},
    ]
    kept = Journal(tmp_path / "t", columns, "cpu", head="a machine", tail="the end")
    kept.measure(("c",), {"unit": "c"}, list)
    assert gpu_summary.read(tmp_path / "t.csv") == []
    assert (tmp_path / "t.md").read_text().startswith("a machine\n\n| unit |")


def test_a_card_that_is_lost_ends_the_process(tmp_path, monkeypatch):
    def dead():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    class Left(BaseException):
        pass

    def leave(status):
        raise Left(status)

    monkeypatch.setattr(torch.cuda, "synchronize", dead)
    monkeypatch.setattr(os, "_exit", leave)
    kept = Journal(tmp_path / "t", ("unit", "ms"), "cuda")
    with pytest.raises(Left, match=str(LOST)):
        kept.measure(("a",), {"unit": "a"}, lambda: [{"ms": 1.0}])
    again = Journal(tmp_path / "t", ("unit", "ms"), "cuda", go_on=True)
    again.measure(("a",), {}, dead)
    assert again.rows == [{"unit": "a", "ms": 1.0}]


def test_a_backend_that_makes_no_layers_has_rows_that_say_so():
    class Hopeless(Triton):
        def layers(self, *_):
            raise RuntimeError("no ptxas")

    state = random_state(np.random.default_rng(1), 2)
    problem = Problem.of(small_model(lmax=1, n_layers=1), state)
    rows = list(measured(problem, [Contestant("ours", Hopeless())], 1))
    assert [row["note"] for row in rows] == ["RuntimeError: no ptxas"] * 2
    assert [row["graph"] for row in rows] == [False, True]


def test_one_table_and_one_figure(tmp_path):
    stride = {"backend": "triton", "replicas": 1, "network": "paper", "error": 1e-7}
    rows = [
        stride
        | {"system": name, "atoms": 20 * k, "ms": 1.0 * k, "engine": engine}
        | {"mark_ms": "1 / 0.5", "reached": "first", "us_per_atom": 0.5 * k}
        for k, name in enumerate(MARKS_MS, 1)
        for engine in ("device", "host")
    ]
    write_csv(rows, (*rows[0], "note"), tmp_path / "gpu_strides.csv")
    other = {"system": "water-192", "part": "convolution", "graph": False}
    rows = [
        other | {"contestant": "cuEquivariance", "note": "not installed"},
        other
        | {"contestant": "e3nn", "graph": True, "note": "CUDA graphs need a card"},
    ]
    write_csv(rows, tuple(rows[0]), tmp_path / "gpu.csv")
    gpu_summary.main(tmp_path)
    text = (tmp_path / "gpu_all.md").read_text()
    assert "14 of 14 strides with a mark" in text
    assert "| stride | paracetamol | paper | 20 | 1 | triton | device | 1 |" in text
    assert "paper's size takes 1 µs per atom and step at least; the aim is 1." in text
    assert "cuEquivariance" in text
    assert "e3nn" not in text
    assert (tmp_path / "gpu_strides.png").stat().st_size > 10_000

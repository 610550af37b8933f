"""``speed/gpu.py``, small: what it times agrees with float64."""

import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import random_state, small_model

from trajcast_ase.network.triton.backend import Triton

FOLDER = Path(__file__).parents[1] / "benchmarks" / "speed"
if not FOLDER.exists():
    pytest.skip("needs the source tree", allow_module_level=True)
# Last: the folder has a run.py, as others do.
sys.path.append(str(FOLDER))

from gpu_calls import Contestant, Problem, measured, torch_alone  # noqa: E402
from gpu_verdict import conclusion, judged, network_verdict  # noqa: E402


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
STRIDES = "system,replicas,backend,engine,ms,off_A,same_bits,note"


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
        strides.append(f"quartz,1,reference,{engine},{time},1e-8,True,")
        strides.append(f"quartz,1,triton,{engine},{time / 2},1e-7,True,")
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

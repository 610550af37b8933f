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

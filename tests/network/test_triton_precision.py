"""What tensor cores do to the linear maps, in torch: no card is needed to know it.

TF32 keeps 11 bits of a number and cuts off the others; products are summed in float32.
"""

import numpy as np
import pytest
import torch
from helpers import BUNDLED, relative_error

from trajcast_ase import load_model
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.network.interaction import IrrepLinear, SpeciesLinear
from trajcast_ase.state import state_from_atoms

KEPT = -(1 << 13)


def cut(values):
    """Return float32 numbers of 11 bits."""
    return (values.contiguous().view(torch.int32) & KEPT).view(torch.float32)


def tf32(a, b):
    return cut(a) @ cut(b)


def tf32x3(a, b):
    small_a, small_b = cut(a - cut(a)), cut(b - cut(b))
    return cut(a) @ cut(b) + (cut(a) @ small_b + small_a @ cut(b))


class Emulated(torch.overrides.TorchFunctionMode):
    """Multiplies matrices as tensor cores do."""

    def __init__(self, product):
        super().__init__()
        self.product = product

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in {torch.Tensor.matmul, torch.Tensor.__matmul__}:
            return self.product(*args)
        return func(*args, **(kwargs or {}))


def errors(name, atoms):
    """Return the errors of forecasts in float32 and with both emulated products."""
    model = load_model(name).set_backend("reference")
    system = atoms()
    draw_momenta(system, 300.0, np.random.default_rng(1), model.conservation)
    state = state_from_atoms(system)
    exact = torch.cat(model.double().raw_forecast(state))
    model.float()
    yield relative_error(torch.cat(model.raw_forecast(state)), exact)
    for product in (tf32x3, tf32):
        with pytest.MonkeyPatch.context() as patch:
            for kind in (IrrepLinear, SpeciesLinear):
                patch.setattr(kind, "forward", emulated(kind.forward, product))
            yield relative_error(torch.cat(model.raw_forecast(state)), exact)


def emulated(forward, product):
    def with_tensor_cores(*arguments):
        with Emulated(product):
            return forward(*arguments)

    return with_tensor_cores


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("name", BUNDLED)
def test_errors_of_tensor_cores(name):
    single, three, one = errors(name, BUNDLED[name])
    assert three < 5e-6
    assert three < 4.0 * single
    assert three < 1e-3 * one
    # Written down in docs/performance.md: far from float32.
    assert 1e-3 < one < 1e-2

"""Each block of a layer against the e3nn module that it replaces."""

import pytest
import torch
from e3nn import nn as e3nn_nn
from e3nn import o3
from helpers import (
    TOLERANCES,
    float64_twins,
    from_e3nn,
    normal,
    relative_error,
    to_e3nn,
)

from trajcast_ase.network.interaction import Interaction, IrrepLinear, SpeciesLinear
from trajcast_ase.network.irreps import (
    Irrep,
    ProductRule,
    all_irreps,
    harmonics_irreps,
)
from trajcast_ase.network.product import DepthwiseProduct

TWIN = TOLERANCES[torch.float64]["twin"]


@pytest.fixture(autouse=True)
def _float64():
    with float64_twins():
        yield


CHANNELS = 3


def named(irreps, multiplicity=CHANNELS):
    return o3.Irreps([(multiplicity, str(irrep)) for irrep in irreps])


def dims(irreps):
    return [irrep.dim for irrep in irreps]


def e3nn_product(irreps, lmax):
    """Return the depthwise product with sorted output, by the recipe of its authors."""
    first, second = named(irreps), o3.Irreps.spherical_harmonics(lmax)
    blocks, routes = [], []
    for i, (mul, left) in enumerate(first):
        for j, (_, right) in enumerate(second):
            for out in left * right:
                if out.l <= lmax:
                    routes.append((i, j, len(blocks)))
                    blocks.append((mul, out))
    ordered, place, _ = o3.Irreps(blocks).sort()
    instructions = sorted(
        ((i, j, place[k], "uvu", True) for i, j, k in routes), key=lambda row: row[2]
    )
    return o3.TensorProduct(first, second, ordered, instructions, shared_weights=False)


def in_path_order(blocks):
    """Return rows path by path: in each block, the paths lie side by side."""
    paths = [block.unflatten(2, (-1, CHANNELS)).transpose(1, 2) for block in blocks]
    return torch.cat([path.flatten(1, 2) for path in paths], dim=1)


@pytest.mark.parametrize(
    ("irreps", "lmax"),
    [
        (harmonics_irreps(1), 1),
        (harmonics_irreps(2), 2),
        (all_irreps(2), 2),
        (all_irreps(3), 3),
        ((Irrep(1, -1), Irrep(1, 1)), 1),
    ],
    ids=["first-1", "first-2", "full-2", "full-3", "vectors"],
)
def test_depthwise_product_equals_e3nn(irreps, lmax):
    rule = ProductRule(irreps, lmax)
    ours, twin = DepthwiseProduct(rule), e3nn_product(irreps, lmax)
    outs = tuple(path.out for path in rule.paths)
    assert [str(ir) for ir in outs] == [str(ir) for _, ir in twin.irreps_out]
    assert twin.weight_numel == rule.n_paths * CHANNELS
    x = normal(7, sum(dims(irreps)), CHANNELS, seed=1)
    harmonics = normal(7, (lmax + 1) ** 2, seed=2)
    weights = normal(7, rule.n_paths, CHANNELS, seed=3)
    expected = twin(to_e3nn(x, dims(irreps)), harmonics, weights.flatten(1))
    expected = from_e3nn(expected, dims(outs), CHANNELS)
    actual = torch.cat(
        [
            block.unflatten(2, (-1, CHANNELS)).transpose(1, 2).flatten(1, 2)
            for block in ours.rowwise(x, harmonics, weights)
        ],
        dim=1,
    )
    assert relative_error(actual, expected) < TWIN


def test_irrep_linear_equals_e3nn():
    irreps_in = tuple(Irrep(*lp) for lp in [(0, 1), (0, 1), (1, -1), (1, -1), (1, 1)])
    muls_in, irreps_out, muls_out = (2, 3, 1, 4, 5), (Irrep(0, 1), Irrep(1, -1)), (6, 2)
    ours = IrrepLinear(irreps_in, muls_in, irreps_out, muls_out)
    pairs = [(m, str(ir)) for m, ir in zip(muls_in, irreps_in, strict=True)]
    twin = o3.Linear(o3.Irreps(pairs), "6x0e+2x1o")
    ours.weight.data = normal(*ours.weight.shape, seed=4)
    twin.weight.data = ours.weight.data.clone()
    blocks = tuple(
        normal(5, ir.dim, mul, seed=k)
        for k, (ir, mul) in enumerate(zip(irreps_in, muls_in, strict=True))
    )
    flat = torch.cat([block.transpose(1, 2).flatten(1) for block in blocks], dim=1)
    scalars, vectors = twin(flat).split([6, 6], dim=1)
    first, second = ours(blocks)
    assert relative_error(first, scalars[:, None]) < TWIN
    assert relative_error(second, from_e3nn(vectors, [3], 2)) < TWIN


def test_species_linear_equals_e3nn():
    irreps, n_species = all_irreps(2), 4
    ours = SpeciesLinear(irreps, CHANNELS, n_species)
    twin = o3.FullyConnectedTensorProduct(
        named(irreps), f"{n_species}x0e", named(irreps)
    )
    ours.weight.data = normal(*ours.weight.shape, seed=5)
    twin.weight.data = ours.weight.data.clone()
    x = normal(6, sum(dims(irreps)), CHANNELS, seed=6)
    one_hot = torch.eye(n_species, dtype=torch.float64)[
        torch.tensor([0, 1, 2, 3, 3, 1])
    ]
    expected = from_e3nn(
        twin(to_e3nn(x, dims(irreps)), one_hot), dims(irreps), CHANNELS
    )
    assert relative_error(torch.cat(ours(x, one_hot), dim=1), expected) < TWIN


def layer_of(irreps_in, lmax=2, parity="both"):
    return Interaction(
        irreps_in,
        lmax=lmax,
        parity=parity,
        n_channels=CHANNELS,
        n_species=2,
        avg_num_neighbors=5.0,
        edge_widths=(4, 3),
        velocity_widths=(4, 3),
    )


def test_gate_equals_e3nn():
    layer = layer_of(all_irreps(2))
    gated = tuple(irrep for irrep in layer.irreps_out if irrep.l > 0)
    twin = e3nn_nn.Gate(
        f"{CHANNELS}x0o+{CHANNELS}x0e",
        [torch.tanh, torch.nn.functional.silu],
        f"{CHANNELS * len(gated)}x0e",
        [torch.nn.functional.silu],
        named(gated),
    )
    widths = [CHANNELS * (1 + len(gated) * (ir == Irrep(0, 1))) for ir in all_irreps(2)]
    blocks = [
        normal(5, ir.dim, width, seed=k)
        for k, (ir, width) in enumerate(zip(all_irreps(2), widths, strict=True))
    ]
    flat = torch.cat([block.transpose(1, 2).flatten(1) for block in blocks], dim=1)
    assert flat.shape[1] == twin.irreps_in.dim
    found = layer._gate(blocks)
    ours = torch.cat([found[irrep] for irrep in all_irreps(2)], dim=1)
    assert relative_error(ours, from_e3nn(twin(flat), dims(all_irreps(2)), 3)) < TWIN


@pytest.mark.parametrize("lmax", [1, 2, 3])
def test_layers_offer_every_irrep_from_the_first_output_on(lmax):
    first = layer_of(harmonics_irreps(lmax), lmax)
    assert Irrep(0, -1) not in first.contraction.irreps_out
    assert first.irreps_out == all_irreps(lmax)
    assert layer_of(first.irreps_out, lmax).irreps_out == all_irreps(lmax)


@pytest.mark.parametrize("lmax", [1, 2, 3])
def test_layers_of_natural_parity_stay_natural(lmax):
    natural = harmonics_irreps(lmax)
    layer = layer_of(natural, lmax, "natural")
    assert layer.contraction.irreps_out == layer.irreps_out == natural
    kept = {(p.block, p.harmonic, p.out) for p in layer.edge_product.rule.paths}
    every = ProductRule(natural, lmax).paths
    assert kept == {(p.block, p.harmonic, p.out) for p in every if p.out in natural}

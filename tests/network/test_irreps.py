"""Irreps, paths and Wigner tensors against e3nn."""

import subprocess
import sys

import pytest
import torch
from e3nn import o3

from trajcast_ase.network.config import COUNTS
from trajcast_ase.network.irreps import (
    Irrep,
    all_irreps,
    dimension,
    harmonics_irreps,
    path_irreps,
    product_paths,
    slices,
)
from trajcast_ase.network.wigner import LARGEST_DEGREE, key, wigner_3j


def test_names_and_dimensions():
    assert [str(ir) for ir in all_irreps(2)] == ["0o", "0e", "1o", "1e", "2o", "2e"]
    assert [ir.dim for ir in all_irreps(2)] == [1, 1, 3, 3, 5, 5]
    assert dimension(all_irreps(2)) == 18


def test_order_is_that_of_e3nn():
    shuffled = [Irrep(2, 1), Irrep(0, 1), Irrep(1, -1), Irrep(1, 1), Irrep(0, -1)]
    theirs = o3.Irreps("+".join(map(str, shuffled))).sort().irreps
    assert "+".join(f"1x{ir}" for ir in sorted(shuffled)) == str(theirs)


@pytest.mark.parametrize("lmax", range(5))
def test_harmonics_irreps(lmax):
    ours = "+".join(f"1x{ir}" for ir in harmonics_irreps(lmax))
    assert ours == str(o3.Irreps.spherical_harmonics(lmax))


def test_slices_cover_all_rows():
    rows = slices(all_irreps(2))
    assert [list(range(18))[one] for one in rows[2:4]] == [[2, 3, 4], [5, 6, 7]]
    assert rows[-1].stop == 18


@pytest.mark.parametrize("lmax", [1, 2, 3])
def test_paths_are_the_couplings_that_e3nn_allows(lmax):
    irreps = all_irreps(lmax)
    expected = {
        (block, harmonic.l, Irrep(out.l, out.p))
        for block, ours in enumerate(irreps)
        for _, harmonic in o3.Irreps.spherical_harmonics(lmax)
        for out in o3.Irrep(str(ours)) * harmonic
        if out.l <= lmax
    }
    paths = product_paths(irreps, lmax)
    assert {(p.block, p.harmonic, p.out) for p in paths} == expected
    keys = [(p.out, p.block, p.harmonic) for p in paths]
    assert keys == sorted(keys)
    assert len(keys) == len(set(keys))


def test_natural_parity_gives_no_pseudoscalar_at_first():
    # The first layer sees 0e 1o 2e only: 0o and 2o cannot arise at lmax 2.
    found = path_irreps(product_paths(harmonics_irreps(2), 2))
    assert [str(ir) for ir in found] == ["0e", "1o", "1e", "2o", "2e"]
    found = path_irreps(product_paths(harmonics_irreps(1), 1))
    assert [str(ir) for ir in found] == ["0e", "1o", "1e"]


def test_wigner_3j_is_normalized_and_antisymmetric():
    symbol = wigner_3j(1, 1, 1)
    assert symbol.dtype == torch.float64
    assert float(symbol.norm()) == pytest.approx(1.0, abs=1e-14)
    assert abs(float(symbol[0, 1, 2])) == pytest.approx(6**-0.5, abs=1e-14)
    assert float((symbol + symbol.transpose(0, 1)).abs().max()) < 1e-14


@pytest.mark.parametrize("l1", range(5))
@pytest.mark.parametrize("l2", range(3))
def test_stored_symbols_are_those_of_e3nn(l1, l2):
    for l3 in range(abs(l1 - l2), min(l1 + l2, LARGEST_DEGREE) + 1):
        expected = o3.wigner_3j(l1, l2, l3, dtype=torch.float64)
        torch.testing.assert_close(
            wigner_3j(l1, l2, l3), expected, rtol=0.0, atol=1e-14
        )


def test_every_symbol_that_a_network_may_need_is_stored():
    # Orthogonality needs all symbols of a degree, and none from elsewhere.
    assert COUNTS["lmax"][1] <= LARGEST_DEGREE
    for l1 in range(LARGEST_DEGREE + 1):
        for l2 in range(LARGEST_DEGREE + 1):
            for l3 in range(abs(l1 - l2), min(l1 + l2, LARGEST_DEGREE) + 1):
                symbol = wigner_3j(l1, l2, l3).flatten(0, 1)
                expected = torch.eye(2 * l3 + 1).double() / (2 * l3 + 1)
                torch.testing.assert_close(
                    symbol.T @ symbol, expected, rtol=0, atol=1e-13, msg=key(l1, l2, l3)
                )


def test_a_bundled_model_loads_without_e3nn():
    script = (
        "import sys, trajcast_ase\n"
        "trajcast_ase.load_model('water-5fs')\n"
        "assert not {'e3nn', 'sympy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)

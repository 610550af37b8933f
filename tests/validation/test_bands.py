"""Temperature by band: bands where the spectrum has them, and the energy in them."""

from dataclasses import replace

import numpy as np
import pytest
from ase import units
from ase.build import molecule

from trajcast_ase.trajectory import Frames
from trajcast_ase.validation.bands import SMALL, band_edges, band_temperatures
from trajcast_ase.validation.inputs import bundled_reference, bundled_references
from trajcast_ase.validation.observables import observe
from trajcast_ase.validation.report import compare

from .conftest import PIECE_FS, STRIDE_FS, drawn_frames

CM_PER_FS = 2.99792458e-5


def narrow(count: int, lines: dict[int, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return a spectrum of peaks of three bins."""
    density = np.full(count, 1e-4)
    for center, height in lines.items():
        density[center - 1 : center + 2] += height * np.array([0.5, 1.0, 0.5])
    return 20.0 * np.arange(count), density


def test_bands_part_the_peaks():
    frequency, density = narrow(100, {10: 1.0, 40: 0.85, 80: 0.7})
    edges = band_edges(frequency, density)
    assert edges[0] == 0.0
    assert edges[-1] == frequency[-1]
    inner = np.array(edges[1:-1])
    assert ((inner > 220) & (inner < 780)).any()
    assert ((inner > 820) & (inner < 1580)).any()


def test_bands_are_stable():
    frequency, density = narrow(100, {10: 1.0, 40: 0.85, 80: 0.7})
    edges = band_edges(frequency, density)
    rng = np.random.default_rng(1)
    noisy = density * (1 + 0.02 * rng.normal(size=len(density)))
    np.testing.assert_allclose(band_edges(frequency, noisy), edges, atol=100.0)


@pytest.mark.parametrize("name", ["ethanol", "paracetamol", "quartz", "water"])
def test_bundled_references_have_bands_with_energy(name):
    assert name in bundled_references()
    reference = bundled_reference(name)
    spectrum = reference.curves["spectrum"]
    mean = spectrum.pieces.mean(axis=0)
    edges = reference.bands_cm
    # To 0.1 cm⁻¹, of curves that are rounded in the file.
    assert edges == pytest.approx(band_edges(spectrum.x, mean), abs=0.11)
    assert 3 <= len(edges) - 1 <= 6
    bins = [*edges[:-1], edges[-1] + 1.0]
    share = np.histogram(spectrum.x, bins, weights=mean)[0] / mean.sum()
    assert share.min() > 0.9 * SMALL
    assert share.sum() == pytest.approx(1.0)
    for _, wanted in band_temperatures(reference, reference).values():
        kelvin = reference.scalars["temperature"].pieces.mean()
        assert wanted.pieces.mean() == pytest.approx(kelvin)


def two_tones(seed: int, low_K: float, high_K: float) -> Frames:
    """Return a molecule with all motion at 300 and at 1200 cm⁻¹, half the energy each.

    The phase of every tone is drawn anew every piece, and so is its energy.
    """
    frames = drawn_frames(molecule("CH4"), seed)
    rng = np.random.default_rng(seed)
    n_piece = round(PIECE_FS / STRIDE_FS)
    shape = (frames.n_frames // n_piece, 5, 3)
    time = STRIDE_FS * np.arange(n_piece)[:, None, None]
    width = np.sqrt(units.kB / 2 / frames.masses)[:, None] * units.fs
    pieces = []
    for _ in range(shape[0]):
        velocities = np.zeros((n_piece, *shape[1:]))
        for kelvin, wave in ((low_K, 300.0), (high_K, 1200.0)):
            sine, cosine = rng.normal(size=(2, *shape[1:]))
            angle = 2 * np.pi * CM_PER_FS * wave * time
            velocities += (
                np.sqrt(kelvin)
                * width
                * (sine * np.sin(angle) + cosine * np.cos(angle))
            )
        pieces.append(velocities)
    return replace(frames, velocities=np.concatenate(pieces))


def test_energy_is_found_in_its_band():
    # Same mean temperature; one band at 3/2, the other at 1/2 of the reference's.
    runs = [two_tones(1, 450.0, 150.0), two_tones(2, 300.0, 300.0)]
    run, reference = (observe(frames, PIECE_FS) for frames in runs)
    run = replace(run, topology=reference.topology)
    assert any(700 < edge < 800 for edge in reference.bands_cm)
    kelvin = reference.scalars["temperature"].pieces.mean()
    for name, (ours, wanted) in band_temperatures(run, reference).items():
        low, high = map(float, name.split(" at ")[1].removesuffix(" cm⁻¹").split("-"))
        ratio = 1.5 if high < 800 else 0.5
        assert high < 800 or low > 700
        assert wanted.pieces.mean() == pytest.approx(kelvin)
        # Five atoms and ten pieces give 30 of 300 numbers: some per cent.
        assert ours.pieces.mean() / kelvin == pytest.approx(ratio, rel=0.3)
    failed = {row.observable for row in compare(run, reference).rows if not row.passes}
    assert not failed & {"temperature", "temperature of H", "temperature of C"}
    assert {name.split(" at ")[0] for name in failed if " at " in name} >= {
        "temperature"
    }


def test_energies_of_bands_add_up_to_the_temperature(methane):
    one, other = (observe(drawn_frames(methane, seed), PIECE_FS) for seed in (1, 2))
    kelvin = other.scalars["temperature"].pieces.mean()
    spectrum = other.curves["spectrum"]
    total = 0.0
    for name, (ours, _) in band_temperatures(one, other).items():
        if not name.startswith("temperature at"):
            continue
        low, high = map(float, name.split(" at ")[1].removesuffix(" cm⁻¹").split("-"))
        inside = (spectrum.x > low - 0.5) & (spectrum.x < high + 0.5)
        share = spectrum.pieces[:, inside].sum(axis=1)
        weight = (share * other.scalars["temperature"].pieces).mean() / kelvin
        total += weight * ours.pieces.mean()
    wanted = one.scalars["temperature"].pieces.mean()
    area = spectrum.pieces.sum(axis=1).mean()
    assert total / area == pytest.approx(wanted, rel=0.01)

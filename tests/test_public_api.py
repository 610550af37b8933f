from __future__ import annotations

import subprocess
import sys

import pytest

import trajcast_ase
import trajcast_ase.stride

HEAVY = ("torch", "e3nn", "matplotlib", "scipy", "ase", "h5py")


def loaded_after(code: str) -> set[str]:
    """Return the heavy modules that a fresh interpreter has after `code`."""
    probe = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split()) & set(HEAVY)


@pytest.mark.parametrize(
    "code",
    [
        "import trajcast_ase; dir(trajcast_ase)",
        "from trajcast_ase import available_models; available_models()",
        "import trajcast_ase.cli",
    ],
)
def test_light_imports(code):
    assert loaded_after(code) == set()


def test_the_probe_sees_heavy_modules():
    assert "h5py" in loaded_after("import h5py")


def test_all_names_resolve_and_are_listed():
    assert len(set(trajcast_ase.__all__)) == len(trajcast_ase.__all__)
    for name in trajcast_ase.__all__:
        assert getattr(trajcast_ase, name) is not None
    assert dir(trajcast_ase) == sorted(trajcast_ase.__all__)


def test_the_agreed_names_are_public():
    agreed = {
        "AdaptiveLangevin",
        "CSVR",
        "ExponentialQuench",
        "Forecaster",
        "ForecasterConfig",
        "Langevin",
        "LinearRamp",
        "Thermostat",
        "TrajCast",
        "available_models",
        "forecast",
        "import_published",
        "load_model",
        "save_model",
    }
    assert agreed <= set(trajcast_ase.__all__)


def test_forecast_is_the_function_whatever_was_imported():
    assert callable(trajcast_ase.forecast)
    assert trajcast_ase.forecast is trajcast_ase.stride.forecast


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Trajcast'"):
        _ = trajcast_ase.Trajcast

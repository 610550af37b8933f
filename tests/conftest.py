"""Hypothesis profiles, run-time shape checks of the core, and shared models."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

# Checks the shapes of the numerical core while the tests run. The modules in front of
# it check their input themselves, which the tests try with input of wrong types.
# Without "forecaster": beartype refuses `Self` in a method of a dataclass.
CHECKED = ("embedding", "harmonics", "interaction", "irreps", "radial")
install_import_hook(
    [
        "trajcast_ase.conservation",
        *(f"trajcast_ase.network.{name}" for name in CHECKED),
    ],
    "beartype.beartype",
)

from helpers import small_model  # noqa: E402  after the hook, which acts on imports

# One thread for each worker of pytest-xdist: more than the machine has cores wait for
# each other, which makes these small models many times slower.
torch.set_num_threads(1)

COMMON = {
    "deadline": None,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow],
}
settings.register_profile("dev", max_examples=25, derandomize=True, **COMMON)
settings.register_profile("ci", max_examples=50, derandomize=True, **COMMON)
settings.register_profile("nightly", max_examples=2000, **COMMON)
# Another one is chosen with `pytest --hypothesis-profile=nightly`.
settings.load_profile("dev")


@pytest.fixture(scope="session", params=["direction", "thermal"])
def model(request):
    """Return a small float64 model of each velocity encoding."""
    return small_model(request.param, torch.float64)


@pytest.fixture(scope="session")
def thermal_model():
    """Return one small float64 model, where the encoding does not matter."""
    return small_model("thermal", torch.float64)

"""Backends, hypothesis profiles, run-time shape checks of the core, shared models."""

from __future__ import annotations

import os
from functools import cache

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

# After the hook, which acts on imports.
from helpers import small_model  # noqa: E402

from trajcast_ase.dynamics import driver, replicas  # noqa: E402
from trajcast_ase.dynamics.arguments import prepared_model  # noqa: E402
from trajcast_ase.dynamics.driver import TrajCast  # noqa: E402
from trajcast_ase.dynamics.replicas import Replicas  # noqa: E402
from trajcast_ase.network.backend import BackendError  # noqa: E402
from trajcast_ase.network.backends import BACKENDS, Engine  # noqa: E402
from trajcast_ase.network.cpu.build import NO_COMPILER, find_compiler  # noqa: E402
from trajcast_ase.network.triton.programs import SWITCH, generated, launch  # noqa: E402

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


def pytest_addoption(parser):
    parser.addoption(
        "--backend",
        choices=("auto", "reference", "cpp"),
        default="auto",
        help="of the networks: auto (default) as the package chooses, reference as "
        "without a C++ compiler, cpp also for networks that are not from a file",
    )
    parser.addoption(
        "--device",
        default="cpu",
        help="of the tests that need no particular one, and of drivers whose test "
        "names none: cpu (default) or cuda",
    )


def pytest_configure(config):
    choice = config.getoption("backend")
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    if choice == "reference":
        # The environment reaches the processes that tests start, too.
        patch.setenv("CXX", "no-compiler")
    _run_on(torch.device(config.getoption("device")), patch)
    if choice == "cpp":
        if find_compiler() is None:
            raise pytest.UsageError(NO_COMPILER)
        patch.setattr(Engine, "backend", BACKENDS["cpp"])


def _run_on(device, patch):
    """Let drivers take their models to `device` where a test names none."""
    if device.type == "cpu":
        return
    if not torch.cuda.is_available():
        raise pytest.UsageError(f"--device {device}: torch finds no CUDA device here")

    def on_device(model, asked):
        movable = isinstance(model, str | os.PathLike) or hasattr(model, "to")
        return prepared_model(model, device if asked is None and movable else asked)

    for module in (driver, replicas):
        patch.setattr(module, "prepared_model", on_device)


def pytest_collection_modifyitems(items):
    missing = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(missing)


@pytest.fixture(scope="session")
def device(request):
    """Return the device of the tests that need no particular one."""
    return torch.device(request.config.getoption("device"))


@pytest.fixture(params=["host", "device"])
def engine(request, monkeypatch):
    """Let drivers whose test names no engine make their strides by each."""
    for kind in (TrajCast, Replicas):
        monkeypatch.setitem(kind.__init__.__kwdefaults__, "engine", request.param)
    return request.param


@pytest.fixture
def compiler():
    """Skip a test of the kernel where none can be compiled."""
    if find_compiler() is None:
        pytest.skip("no C++ compiler, or --backend reference")


@pytest.fixture
def interpreter(monkeypatch):
    """Have Triton interpret kernels on the CPU; skip a test where it is missing."""
    # First, so that what its own library defines does not depend on the order of tests.
    pytest.importorskip("triton")
    monkeypatch.setenv(SWITCH, "1")
    if problem := interpreter_problem():
        pytest.skip(problem)


@cache
def interpreter_problem():
    """Return what an interpreter lacks: that of Triton 3.6 fails with NumPy 2.4."""
    lines = ("def probe(x):", "    for n in range(tl.load(x), tl.load(x + 1)):")
    source = "\n".join((*lines, "        tl.store(x + n, n)\n"))
    numbers = torch.tensor([1, 2])
    try:
        launch(generated(source), (1,), numbers, on=numbers)
    except BackendError as error:
        return str(error)
    return None


@pytest.fixture(scope="session", params=["direction", "thermal"])
def model(request):
    """Return a small float64 model of each velocity encoding."""
    return small_model(request.param, torch.float64)


@pytest.fixture(scope="session")
def thermal_model():
    """Return one small float64 model, where the encoding does not matter."""
    return small_model("thermal", torch.float64)

"""The compiled kernel against the torch operations that it replaces."""

import copy
import logging
import pickle  # noqa: TID251  what users may do
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from helpers import (
    TOLERANCES,
    needs_compiler,
    normal,
    random_state,
    relative_error,
    small_model,
)

from trajcast_ase import load_model, save_model
from trajcast_ase.neighbors import Edges, find_edges
from trajcast_ase.network import backends
from trajcast_ase.network.backend import Backend, BackendError
from trajcast_ase.network.backends import BACKENDS
from trajcast_ase.network.cpu import cache
from trajcast_ase.network.cpu.build import (
    CompilerError,
    find_compiler,
    load,
)
from trajcast_ase.network.cpu.cache import cache_folder
from trajcast_ase.network.cpu.product import MIN_EDGES_PER_THREAD
from trajcast_ase.network.inference.layers import ready_layers
from trajcast_ase.network.inference.matrices import LayerMatrices
from trajcast_ase.network.inference.shape import LayerShape
from trajcast_ase.network.inference.tables import Grid
from trajcast_ase.network.irreps import (
    Irrep,
    ProductRule,
    all_irreps,
    dimension,
    harmonics_irreps,
)
from trajcast_ase.network.product import DepthwiseProduct
from trajcast_ase.network.routes import Routes
from trajcast_ase.network.weights import Sharing, WeightRows

CPP = BACKENDS["cpp"]
FLOATS = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)


def random_edges(n_atoms, n_pairs, *, isolated=()):
    """Return both directions of random pairs, sorted by receiver."""
    generator = torch.Generator().manual_seed(n_pairs)
    free = torch.tensor([i for i in range(n_atoms) if i not in isolated])
    ends = free[torch.randint(len(free), (2, n_pairs), generator=generator)]
    vectors = torch.randn(n_pairs, 3, generator=generator, dtype=torch.float64)
    receivers, senders = torch.cat([ends, ends.flip(0)], dim=1)
    vectors = torch.cat([vectors, -vectors])
    order = receivers.argsort(stable=True)
    return Edges(receivers[order], senders[order], vectors[order])


def problem(
    irreps,
    lmax,
    n_channels,
    edges,
    *,
    n_atoms,
    dtype,
    parity="both",
    in_table=False,
):
    """Return a product, its routes, and random inputs that carry gradients.

    With `in_table` some rows of the weights are between those of a table.
    """
    product = DepthwiseProduct(ProductRule(irreps, lmax, parity)).to(dtype)
    routes = Routes.of_edges(edges, n_atoms)
    x = normal(n_atoms, dimension(irreps), n_channels, seed=1)
    lengths = edges.vectors.norm(dim=1)
    if in_table:
        grid = Grid.between(0.05, 2.5, 12)
        places = grid.places(lengths)
        rows, fractions, n_rows = places.rows, places.fractions, grid.n_points
    else:
        sharing = Sharing.of_lengths(lengths)
        rows, fractions, n_rows = sharing.rows, None, len(sharing.representatives)
    values = normal(n_rows, product.rule.n_paths * n_channels, seed=2)
    harmonics = normal(len(edges.receivers), (lmax + 1) ** 2, seed=3)
    x, values = (t.to(dtype).requires_grad_() for t in (x, values))
    weights = WeightRows(values, rows, fractions)
    return product, routes, x, weights, harmonics.to(dtype)


def gradients(blocks, inputs):
    """Return the gradients of a random functional of the output blocks."""
    total = sum(
        (block * normal(*block.shape, seed=10 + k).to(block)).sum()
        for k, block in enumerate(blocks)
    )
    return torch.autograd.grad(total, inputs)


def assert_backends_agree(compute, inputs):
    tolerance = TOLERANCES[inputs[0].dtype]["twin"]
    results = []
    for name in ("reference", "cpp"):
        blocks = compute(BACKENDS[name])
        results.append((*blocks, *gradients(blocks, inputs)))
    for expected, ours in zip(*results, strict=True):
        assert ours.shape == expected.shape
        assert relative_error(ours, expected) < tolerance


CASES = pytest.mark.parametrize(
    ("irreps", "lmax", "n_channels", "parity"),
    [
        (harmonics_irreps(2), 2, 16, "both"),
        (harmonics_irreps(2), 2, 48, "natural"),
        (harmonics_irreps(3), 3, 5, "natural"),
        ((Irrep(0, 1),), 2, 24, "natural"),
        (all_irreps(2), 2, 32, "both"),
        (all_irreps(2), 2, 24, "both"),
        (all_irreps(2), 2, 5, "both"),
        (all_irreps(1), 1, 4, "both"),
        (all_irreps(3), 3, 8, "both"),
    ],
    ids=[
        "first-16",
        "natural-48",
        "natural-3",
        "scalars",
        "full-32",
        "full-24",
        "full-5",
        "lmax-1",
        "lmax-3",
    ],
)


@needs_compiler
@FLOATS
@CASES
def test_convolution_and_its_gradients(irreps, lmax, n_channels, parity, dtype):
    assert_convolutions_agree(irreps, lmax, n_channels, parity, dtype)


@needs_compiler
@FLOATS
@CASES
def test_convolution_with_weights_from_a_table(irreps, lmax, n_channels, parity, dtype):
    assert_convolutions_agree(irreps, lmax, n_channels, parity, dtype, in_table=True)


def assert_convolutions_agree(
    irreps, lmax, n_channels, parity, dtype, *, in_table=False
):
    edges = random_edges(7, 20, isolated=(0, 3, 6))
    product, routes, x, weights, harmonics = problem(
        irreps,
        lmax,
        n_channels,
        edges,
        n_atoms=7,
        dtype=dtype,
        parity=parity,
        in_table=in_table,
    )
    assert_backends_agree(
        lambda backend: backend.convolve(product, x, harmonics, weights, routes),
        (x, weights.values),
    )
    for block in CPP.convolve(product, x, harmonics, weights, routes):
        assert not block[[0, 3, 6]].any()


@needs_compiler
@FLOATS
@CASES
def test_rowwise_product_and_its_gradients(irreps, lmax, n_channels, parity, dtype):
    product = DepthwiseProduct(ProductRule(irreps, lmax, parity)).to(dtype)
    x = normal(6, dimension(irreps), n_channels, seed=4).to(dtype).requires_grad_()
    weights = (
        normal(6, product.rule.n_paths, n_channels, seed=5).to(dtype).requires_grad_()
    )
    harmonics = normal(6, (lmax + 1) ** 2, seed=6).to(dtype)
    assert_backends_agree(
        lambda backend: backend.rowwise(product, x, harmonics, weights), (x, weights)
    )


@needs_compiler
@FLOATS
def test_no_edges_at_all(dtype):
    nothing = torch.zeros(0, dtype=torch.int64)
    edges = Edges(nothing, nothing, torch.zeros(0, 3, dtype=torch.float64))
    product, routes, x, weights, harmonics = problem(
        all_irreps(2), 2, 8, edges, n_atoms=3, dtype=dtype
    )
    blocks = CPP.convolve(product, x, harmonics, weights, routes)
    assert [block.shape[0] for block in blocks] == [3] * 6
    assert not any(block.any() for block in blocks)
    grad_x, grad_weights = gradients(blocks, (x, weights.values))
    assert not grad_x.any()
    assert grad_weights.shape == weights.values.shape


@needs_compiler
@FLOATS
@pytest.mark.parametrize("in_table", [False, True])
def test_threads_do_not_change_a_bit(dtype, in_table):
    edges = random_edges(20, 3 * MIN_EDGES_PER_THREAD)
    product, routes, x, weights, harmonics = problem(
        all_irreps(2), 2, 48, edges, n_atoms=20, dtype=dtype, in_table=in_table
    )
    results, n_threads = [], torch.get_num_threads()
    try:
        for n in (1, 2, 5):
            torch.set_num_threads(n)
            blocks = CPP.convolve(product, x, harmonics, weights, routes)
            results.append((*blocks, *gradients(blocks, (x, weights.values))))
    finally:
        torch.set_num_threads(n_threads)
    for parallel in results[1:]:
        for ours, serial in zip(parallel, results[0], strict=True):
            assert torch.equal(ours, serial)


def test_both_directions_of_a_pair_share_their_weights():
    lengths = random_edges(9, 30).vectors.norm(dim=1)
    sharing = Sharing.of_lengths(lengths)
    assert len(sharing.representatives) == 30
    assert torch.equal(lengths[sharing.representatives][sharing.rows], lengths)
    # The kernel relies on rows that are numbered in the order of first use.
    assert torch.equal(sharing.rows.unique(), torch.arange(30))
    highest = sharing.rows.cummax(0).values
    assert int(highest[0]) == 0
    assert int(highest.diff().max()) == 1


def test_lengths_with_gradient_share_nothing():
    lengths = random_edges(5, 6).vectors.norm(dim=1).requires_grad_()
    sharing = Sharing.of_lengths(lengths)
    assert torch.equal(sharing.rows, torch.arange(12))
    assert torch.equal(sharing.representatives, torch.arange(12))


@needs_compiler
def test_harmonics_with_gradient_use_the_reference():
    edges = random_edges(5, 8)
    product, routes, x, weights, harmonics = problem(
        all_irreps(2), 2, 4, edges, n_atoms=5, dtype=torch.float64
    )
    harmonics.requires_grad_()
    assert_backends_agree(
        lambda backend: backend.convolve(product, x, harmonics, weights, routes),
        (x, weights.values, harmonics),
    )


@needs_compiler
def test_second_derivative_is_refused():
    edges = random_edges(5, 8)
    product, routes, x, weights, harmonics = problem(
        all_irreps(1), 1, 4, edges, n_atoms=5, dtype=torch.float64
    )
    first, *_ = CPP.convolve(product, x, harmonics, weights, routes)
    (slope,) = torch.autograd.grad((first**2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


@needs_compiler
@pytest.mark.parametrize(
    "wrong",
    [
        "dtype",
        "half",
        "paths",
        "harmonics",
        "rows",
        "table",
        "few rows",
        "few fractions",
    ],
)
def test_arrays_that_do_not_fit_are_refused(wrong):
    edges = random_edges(5, 8)
    product, routes, x, weights, harmonics = problem(
        all_irreps(1), 1, 4, edges, n_atoms=5, dtype=torch.float64
    )
    match = "have shape"
    if wrong == "dtype":
        harmonics, match = harmonics.float(), "got torch.float32 on cpu"
    elif wrong == "half":
        x, match = x.half(), "got torch.float16 on cpu"
    elif wrong == "paths":
        weights = replace(weights, values=weights.values[:, 1:])
    elif wrong == "few rows":
        weights = replace(weights, rows=weights.rows[1:])
    elif wrong == "few fractions":
        fractions = torch.zeros(len(weights.rows) - 1, dtype=torch.float64)
        weights = replace(weights, fractions=fractions)
    elif wrong == "rows":
        weights, match = replace(weights, rows=weights.rows + 1), "rows up to"
    elif wrong == "table":
        fractions = torch.zeros(len(weights.rows), dtype=torch.float64)
        weights, match = replace(weights, fractions=fractions), "rows up to"
    else:
        harmonics = harmonics[1:]
    with pytest.raises(ValueError, match=match):
        CPP.convolve(product, x, harmonics, weights, routes)


@pytest.fixture
def no_compiler(monkeypatch, tmp_path):
    """Hide the compiler, and what it has compiled before."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", str(tmp_path / "g++"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def new_model(**changes):
    return small_model("thermal", torch.float32, n_layers=1, **changes)


@pytest.mark.usefixtures("no_compiler")
def test_automatic_choice_without_compiler_says_so_once(caplog):
    with caplog.at_level(logging.WARNING):
        model = new_model().set_backend("auto")
    assert model.backend.name == "reference"
    (record,) = caplog.records
    assert "computing with the backend 'reference'" in record.message
    assert "install g++ or clang++" in record.message


@pytest.mark.usefixtures("no_compiler")
def test_explicit_choice_without_compiler_is_an_error():
    model = new_model().set_backend("reference")
    with pytest.raises(CompilerError, match="install g\\+\\+ or clang\\+\\+"):
        model.set_backend("cpp")
    assert model.backend.name == "reference"


@needs_compiler
def test_automatic_choice_with_compiler():
    model = new_model().set_backend("auto")
    assert model.backend.name == "cpp"
    assert model.set_backend("reference").backend.name == "reference"


def test_choices_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match=r"unknown backend 'cuda'.*'cpp', 'reference'"):
        new_model().set_backend("cuda")
    elsewhere = new_model().to("meta")
    with pytest.raises(ValueError, match="the model is on meta"):
        elsewhere.set_backend("cpp")
    assert elsewhere.set_backend("auto").backend.name == "reference"


@needs_compiler
def test_network_that_moved_off_the_cpu_has_the_reference():
    model = new_model().set_backend("cpp")
    assert model.backend.name == "cpp"
    assert model.to("meta").backend.name == "reference"


@dataclass(frozen=True)
class Counting(Backend):
    """Torch's products and layers of ones; notes its calls."""

    name: ClassVar[str] = "counting"
    calls: list[str] = field(default_factory=list, compare=False)
    works: bool = True

    def check(self):
        if not self.works:
            raise BackendError("the abacus is broken")

    def computes_on(self, device):
        return device.type == "cpu"

    def layers(self, network, outputs):
        return ready_layers(network, outputs, partial(Passing, self.calls))

    def convolve(self, product, *arguments):
        self.calls.append("convolve")
        return super().convolve(product, *arguments)


@dataclass
class Passing:
    """A layer that returns ones."""

    calls: list[str]
    shape: LayerShape
    matrices: LayerMatrices

    def __call__(self, x, *_):
        self.calls.append("layer")
        return x.new_ones(x.shape[0], self.shape.dim_out, self.shape.n_channels)


def test_a_backend_of_ones_own_runs_and_trains(monkeypatch):
    state, own = random_state(np.random.default_rng(3)), Counting()
    monkeypatch.setattr(backends, "BACKENDS", {"counting": own, **BACKENDS})
    model = new_model().set_backend("counting").requires_grad_()
    assert model.backend is own
    expected, _ = copy.deepcopy(model).set_backend("reference").raw_forecast(state)
    moved, _ = model.raw_forecast(state)
    assert torch.equal(moved, expected)
    moved.sum().backward()
    assert own.calls == ["convolve"]
    with torch.no_grad():
        constant, _ = model.raw_forecast(state)
    assert own.calls == ["convolve", "layer"]
    assert torch.equal(constant, constant[:1].expand_as(constant))
    assert new_model().set_backend("auto").backend is own
    assert model.to("meta").backend.name == "reference"


def test_a_backend_need_not_be_known_by_name():
    own = Counting()
    assert new_model().set_backend(own).backend is own
    with pytest.raises(BackendError, match="abacus"):
        new_model().set_backend(Counting(works=False))


def test_automatic_choice_passes_over_what_fails(monkeypatch, caplog):
    known = {"counting": Counting(works=False), "reference": BACKENDS["reference"]}
    monkeypatch.setattr(backends, "BACKENDS", known)
    assert new_model().set_backend("auto").backend.name == "reference"
    (record,) = caplog.records
    assert "the abacus is broken" in record.message


@needs_compiler
@torch.no_grad()
def test_copies_and_pickles_go_without_tables():
    state = random_state(np.random.default_rng(3))
    model = new_model().set_backend("cpp")
    expected, _ = model.raw_forecast(state)
    assert model._engine._layers is not None
    weights = sum(p.nbytes for p in model.parameters())
    tables = sum(
        part.edge.values.nbytes
        for part in (layer.tables for layer in model._engine._layers.layers)
    )
    data = pickle.dumps(model)
    assert len(data) < 2 * weights + 50_000 < tables
    for twin in (copy.deepcopy(model), pickle.loads(data)):  # noqa: S301
        assert twin._engine._layers is None
        assert twin.backend.name == "cpp"
        assert torch.equal(twin.raw_forecast(state)[0], expected)


@needs_compiler
@pytest.mark.parametrize("how", ["load", "copy", "move", "build"])
def test_inference_mode_changes_nothing(how, tmp_path):
    state = random_state(np.random.default_rng(3))
    model = new_model().set_backend("cpp")
    path = tmp_path / "model.trajcast"
    save_model(model, path)
    with torch.inference_mode():
        if how == "load":
            model = load_model(path)
        elif how == "copy":
            model = copy.deepcopy(model)
        elif how == "move":
            model = model.double().float()
        else:
            model = new_model().set_backend("cpp")
        first, _ = model.raw_forecast(state)
        again, _ = model.raw_forecast(state)
        assert torch.equal(first, again)
        # Tables follow the weights in this mode, too.
        model.layers[0].edge_mlp.weights[-1].mul_(2.0)
        changed, _ = model.raw_forecast(state)
        expected, _ = model.set_backend("reference").raw_forecast(state)
    assert relative_error(changed, first) > 1e-2
    assert relative_error(changed, expected) < 1e-5


@needs_compiler
def test_a_model_loaded_in_inference_mode_can_be_trained(tmp_path):
    state = random_state(np.random.default_rng(3))
    path = tmp_path / "model.trajcast"
    save_model(new_model(), path)
    with torch.inference_mode():
        model = load_model(path)
        model.raw_forecast(state)
    model.requires_grad_()
    model.raw_forecast(state)[0].sum().backward()
    assert model.readout.weight.grad is not None


ANSWER = 'extern "C" int answer() { return 42; }'


@pytest.fixture
def fresh_cache(monkeypatch, tmp_path):
    """Return the folder of a cache that holds nothing yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return cache_folder()


def overwrite(path, content):
    """Give a file that is loaded another content: the old one stays for the process."""
    path.unlink()
    path.write_bytes(content)


@needs_compiler
def test_failing_compiler_is_reported(fresh_cache):
    with pytest.raises(CompilerError, match=r"(?s)failed .*set the environ"):
        load("this is not C++")
    assert not list(fresh_cache.iterdir())


@needs_compiler
def test_compiled_once_even_by_many_at_a_time(fresh_cache):
    with ThreadPoolExecutor(4) as pool:
        libraries = list(pool.map(load, [ANSWER] * 4))
    assert [library.answer() for library in libraries] == [42] * 4
    (path,) = fresh_cache.iterdir()
    written = path.stat().st_mtime_ns
    assert load(ANSWER).answer() == 42
    assert path.stat().st_mtime_ns == written


@needs_compiler
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_damaged_kernels_are_made_anew(fresh_cache, share):
    """In a process of its own: loading a truncated library can end it."""
    load(ANSWER)
    (path,) = fresh_cache.iterdir()
    content = path.read_bytes()
    overwrite(path, content[: int(share * len(content))])
    program = (
        "from trajcast_ase.network.cpu.build import load\n"
        f"print(load({ANSWER!r}).answer())"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert outcome.stdout == "42\n", outcome.stderr
    assert path.read_bytes() == content


@needs_compiler
def test_flipped_bytes_are_noticed(fresh_cache):
    load(ANSWER)
    (path,) = fresh_cache.iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    overwrite(path, content)
    assert load(ANSWER).answer() == 42
    assert path.read_bytes() != content


@needs_compiler
@pytest.mark.usefixtures("fresh_cache")
def test_kernels_are_used_where_there_is_no_compiler(monkeypatch):
    load(ANSWER)
    monkeypatch.setenv("CXX", "/nowhere/g++")
    assert find_compiler() is None
    assert load(ANSWER).answer() == 42
    with pytest.raises(CompilerError, match="finds none"):
        load(ANSWER.replace("42", "43"))


@needs_compiler
@pytest.mark.usefixtures("fresh_cache")
@pytest.mark.parametrize("changes", [{}, {"surroundings_cutoff": 6.0}])
def test_models_use_the_kernels_that_are_there(changes, monkeypatch, caplog):
    """Those compiled on a login node, on a node without a compiler."""
    state = random_state(np.random.default_rng(3))

    def model(**others):
        network = small_model("thermal", torch.float32, **changes, **others)
        return network.set_backend("auto")

    with torch.no_grad():
        model().raw_forecast(state)
    monkeypatch.setenv("CXX", "/nowhere/g++")
    known, other = model(), model(n_channels=12)
    with torch.no_grad():
        known.raw_forecast(state)
        assert known.backend.name == "cpp"
        assert not caplog.records
        found, _ = other.raw_forecast(state)
        other.raw_forecast(state)
    assert other.backend.name == "reference"
    expected, _ = model(n_channels=12).set_backend("reference").raw_forecast(state)
    assert torch.equal(found, expected)
    (record,) = caplog.records
    assert "finds none" in record.message


@needs_compiler
@pytest.mark.parametrize("others", [0o770, 0o707])
def test_a_cache_that_others_can_write_is_not_used(fresh_cache, others, caplog):
    load(ANSWER)
    (path,) = fresh_cache.iterdir()
    fresh_cache.chmod(others)
    overwrite(path, b"evil")
    assert load(ANSWER).answer() == 42
    assert path.read_bytes() == b"evil"
    assert any("others can write to" in record.message for record in caplog.records)


@needs_compiler
@pytest.mark.parametrize("root", ["/dev/null", "file"])
def test_a_cache_that_cannot_be_made_is_done_without(root, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    root = tmp_path / "file" if root == "file" else Path(root)
    monkeypatch.setenv("XDG_CACHE_HOME", str(root))
    assert load(ANSWER).answer() == 42


@needs_compiler
def test_no_folder_at_all_is_the_reference(monkeypatch, caplog):
    def full(**_):
        raise OSError("No space left on device")

    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    monkeypatch.setattr(cache.tempfile, "mkdtemp", full)
    cache._private_folder.cache_clear()
    model = small_model("thermal", torch.float32).set_backend("auto")
    assert model.backend.name == "reference"
    assert "no folder" in caplog.records[-1].message


@pytest.mark.parametrize(
    "script", ["exit 1", "exit 0", "echo nonsense > $(echo $* | sed 's/.* -o //')"]
)
def test_automatic_choice_with_a_compiler_that_fails(
    script, fresh_cache, monkeypatch, tmp_path, caplog
):
    broken = tmp_path / "broken"
    broken.write_text(f"#!/bin/sh\n{script}\n")
    broken.chmod(0o700)
    monkeypatch.setenv("CXX", str(broken))
    model = small_model("thermal", torch.float32).set_backend("auto")
    assert model.backend.name == "reference"
    (record,) = caplog.records
    assert "set the environment variable CXX" in record.message
    with pytest.raises(CompilerError, match="set the environment variable CXX"):
        model.set_backend("cpp")
    assert not list(fresh_cache.glob("*.so"))


@needs_compiler
@FLOATS
def test_forecaster_gives_the_same_forecast_and_gradient(dtype):
    model = small_model("thermal", dtype).requires_grad_()
    state = random_state(np.random.default_rng(3))
    edges = find_edges(state, model.config.cutoff)
    results = []
    for backend in ("reference", "cpp"):
        model.set_backend(backend)
        targets = model(state.atomic_numbers, state.velocities, edges)
        parameters = list(model.parameters())
        gradient = torch.autograd.grad((targets**2).sum(), parameters)
        with torch.no_grad():
            again = model(state.atomic_numbers, state.velocities, edges)
        results.append([targets, again, torch.cat([g.flatten() for g in gradient])])
    for expected, ours in zip(*results, strict=True):
        assert relative_error(ours, expected) < TOLERANCES[dtype]["twin"]

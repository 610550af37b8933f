"""A step from gradients to weights: that of a plain one, and nothing is read."""

import copy

import pytest
import torch
from fakes import NoTransfers, without_numbers
from helpers import small_model
from plain_updates import PlainUpdate

from trajcast_ase.network.inference.layers import _version as version_of
from trajcast_ase.training.config import OptimizerConfig
from trajcast_ase.training.update import LeftOut, Update

OPTIMIZERS = ["soap", "muon", "adamw", "adam-amsgrad"]
STEPS = 30


def options_of(name, **changes) -> OptimizerConfig:
    changes = {"refresh_every": 4, "longest_side": 16} | changes
    return OptimizerConfig(steps=100, optimizer=name, ema_decay=0.9, **changes)


def network():
    return small_model("thermal", torch.float64, n_layers=1).requires_grad_()


def give_gradients(models, generator, scale=1.0):
    """Give all models the same gradients, of all sizes around the clip."""
    for parameters in zip(*(model.parameters() for model in models), strict=True):
        shape = parameters[0].shape
        gradient = torch.randn(shape, generator=generator, dtype=torch.float64)
        for one in parameters:
            one.grad = scale * gradient


def state_of(update):
    """Return all tensors of an update by name."""
    tensors = dict(update.model.state_dict())
    tensors |= {f"average {k}": v for k, v in update.average.state_dict().items()}
    for number, optimizer in enumerate(update.optimizers):
        for place, state in enumerate(optimizer.state.values()):
            tensors |= {f"{number} {place} {k}": v for k, v in state.items()}
    return tensors


def copies(tensors):
    return {name: one.clone() for name, one in tensors.items()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, one in expected.items():
        assert torch.equal(found[name], one), name


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_are_those_of_a_plain_step(name):
    options = options_of(name)
    model = network()
    twin = copy.deepcopy(model)
    update, plain = Update.of(model, options), PlainUpdate(twin, options)
    generator = torch.Generator().manual_seed(1)
    for step in range(STEPS):
        give_gradients([model, twin], generator, scale=0.02 * 1.2**step)
        rate = 0.1 * (1 - step / STEPS)
        update(rate, step)
        plain(rate)
    for one, start in zip(model.parameters(), network().parameters(), strict=True):
        assert float((one - start).detach().abs().max()) > 1e-3
    for one, other in (
        (model, twin),
        (update.average.module, plain.average.module),
    ):
        for found, expected in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


class Captures:
    """A capture as a card makes it: some calls before, and tensors that stay."""

    def __init__(self):
        self.count = 0

    def __call__(self, call, device):
        assert device.type == "cpu"
        self.count += 1
        for _ in range(3):
            call()
        parameters = call.__self__._parameters
        held = [one.grad for one in parameters]

        def replay():
            given = [one.grad for one in parameters]
            for one, gradient in zip(parameters, held, strict=True):
                one.grad = gradient
            call()
            for one, gradient in zip(parameters, given, strict=True):
                one.grad = gradient

        return replay


def captured_update(model, options, captures) -> Update:
    made = Update.of(model, options)
    return Update(model, made.average, made.optimizers, options, captures)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_capture_leaves_no_trace_and_replays_are_the_calls(name):
    options, captures = options_of(name), Captures()
    model = network()
    twin = copy.deepcopy(model)
    calls = Update.of(model, options)
    graph = captured_update(twin, options, captures)
    generator = torch.Generator().manual_seed(2)
    for step in range(12):
        give_gradients([model, twin], generator)
        if step == 7:
            next(model.parameters()).grad[...] = torch.inf
            next(twin.parameters()).grad[...] = torch.inf
        calls(0.1, step)
        graph(0.1, step)
    assert captures.count == 1
    assert_same(state_of(graph), state_of(calls))
    assert graph.left_out() == calls.left_out() == LeftOut(0, 1)


def test_other_parameters_with_gradients_are_captured_anew():
    captures = Captures()
    model = network()
    update = captured_update(model, options_of("adamw"), captures)
    generator = torch.Generator().manual_seed(2)
    first = next(model.parameters())
    for step in range(6):
        give_gradients([model], generator)
        before = first.detach().clone()
        if step < 3:
            first.grad = None
        update(0.1, step)
        assert torch.equal(before, first) == (step < 3)
    assert captures.count == 2


def test_tables_of_the_average_are_made_anew_after_a_replay():
    """A replay of a graph does not count as a change of the tensors that it writes."""
    model = network()

    def unseen(call, device):
        del call, device
        return lambda: None

    update = captured_update(model, options_of("adamw"), unseen)
    owners = (dict(update.average.module.named_parameters()),)
    generator = torch.Generator().manual_seed(2)
    versions = []
    for step in range(3):
        give_gradients([model], generator)
        update(0.1, step)
        versions.append(version_of(owners))
    assert versions[0] != versions[1] != versions[2]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("value", [torch.inf, torch.nan])
@pytest.mark.parametrize("begun", [1, 2, 6])
def test_gradients_that_are_not_finite_change_nothing(name, value, begun):
    model = network()
    update = Update.of(model, options_of(name))
    generator = torch.Generator().manual_seed(3)
    for step in range(begun):
        give_gradients([model], generator)
        update(0.1, step)
    before = copies(state_of(update))
    for step in range(2):
        give_gradients([model], generator)
        list(model.parameters())[3].grad[0] = value
        update(0.1, begun + 4 * (step + 1) + 1)  # where no basis is due
        assert update.left_out() == LeftOut(step + 1, step + 1)
        assert_same(state_of(update), before)
    give_gradients([model], generator)
    update(0.1, begun)
    assert update.left_out() == LeftOut(0, 2)
    assert all(bool(one.isfinite().all()) for one in state_of(update).values())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_first_gradient_that_is_not_finite_begins_nothing(name):
    model, twin = network(), network()
    late, prompt = (Update.of(one, options_of(name)) for one in (model, twin))
    generator = torch.Generator().manual_seed(3)
    give_gradients([model], generator, scale=torch.nan)
    late(0.1, 0)
    assert late.left_out() == LeftOut(1, 1)
    for step in range(3):
        give_gradients([model, twin], generator)
        late(0.1, step)
        prompt(0.1, step)
    assert_same(state_of(late), state_of(prompt))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_reads_and_copies_nothing(name):
    model, options = network(), options_of(name)
    update = Update.of(model, options)
    generator = torch.Generator().manual_seed(4)
    for step in range(2):
        give_gradients([model], generator)
        update(0.1, step)
    bare = without_numbers_of(update, options)
    with NoTransfers():
        bare.apply()
    with pytest.raises(RuntimeError, match="meta"):
        bare.left_out()


def without_numbers_of(update, options) -> Update:
    """Return an update whose tensors, state included, are without numbers."""
    bare = Update.of(without_numbers(update.model), options)
    for one, other in zip(bare.optimizers, update.optimizers, strict=True):
        for mine, theirs in zip(
            one.param_groups[0]["params"], other.param_groups[0]["params"], strict=True
        ):
            mine.grad = without_numbers(theirs.grad)
            if theirs in other.state:
                one.state[mine] = without_numbers(dict(other.state[theirs]))
    bare.restored()
    return bare


def test_learning_rates_are_given_not_captured():
    model, twin = network(), network()
    slow, fast = (
        captured_update(one, options_of("adamw"), Captures()) for one in (model, twin)
    )
    generator = torch.Generator().manual_seed(5)
    for step in range(3):
        give_gradients([model, twin], generator)
        slow(0.1, step)
        fast(0.1 if step < 2 else 0.2, step)
    assert not torch.equal(*(next(one.parameters()) for one in (model, twin)))

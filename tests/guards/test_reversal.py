"""Going back: errors of known maps, limits in model files, what the guard says."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from ase import Atoms
from driver_helpers import HORIZON, crystal, water
from helpers import small_model

from trajcast_ase import ForecastNoise, load_model, save_model
from trajcast_ase.conservation import Conservation
from trajcast_ase.data import paracetamol
from trajcast_ase.guards.reversal import ReversalGuard, reversal_errors, reversal_limits
from trajcast_ase.models.model_file import with_reversal
from trajcast_ase.models.model_header import ModelCard, ModelFileError
from trajcast_ase.models.reversal_limits import ReversalLimits, ReversalScale
from trajcast_ase.models.tails import Tail
from trajcast_ase.momenta import draw_momenta
from trajcast_ase.state import State, state_from_atoms
from trajcast_ase.stride import stride
from trajcast_ase.testing import Ballistic, Shrinker
from trajcast_ase.thermostats.noise import NoisyModel, ResidualCovariance
from trajcast_ase.training.reversal_fit import Missed, fit_limits, fit_tail

TAIL = Tail(threshold=2.0, scale=0.5, shape=0.0, share=0.01)
LIMITS = ReversalLimits(
    {"O": ReversalScale(1e-2, 1e-3), "H": ReversalScale(2e-2, 2e-3)},
    TAIL,
    replace(TAIL, share=0.1),
    n_atoms=3,
    n_pairs=200,
)


class Kicker:
    """Free flight that kicks one atom: it does not reverse."""

    horizon_fs, conservation = HORIZON, Conservation(angular=False)
    device = torch.device("cpu")

    def __init__(self, atom: int, kick: float) -> None:
        self.atom, self.kick = atom, kick

    def check_elements(self, atomic_numbers) -> None:
        """Accept every element."""

    def raw_forecast(self, state: State):
        kicks = torch.zeros_like(state.velocities)
        kicks[self.atom, 0] = self.kick
        return state.velocities * self.horizon_fs, state.velocities + kicks


def heavy(n: int = 2) -> Atoms:
    """Return atoms of equal mass, of which conservation takes little from a kick."""
    atoms = Atoms(f"O{n}", np.arange(3 * n).reshape(n, 3).astype(float))
    atoms.set_velocities(np.random.default_rng(0).normal(0, 0.01, (n, 3)))
    return atoms


def test_exact_dynamics_comes_back():
    model, atoms = crystal(3)
    before = state_from_atoms(atoms)
    errors = reversal_errors(model, before, stride(model, before))
    assert errors.positions.shape == errors.velocities.shape == (27,)
    assert float(errors.positions.max()) < 1e-12
    assert float(errors.velocities.max()) < 1e-14


def test_lost_energy_does_not_come_back():
    model, before = Shrinker(HORIZON, factor=0.9), state_from_atoms(heavy())
    before = before.moved(
        before.positions, before.velocities - before.velocities.mean(0)
    )
    errors = reversal_errors(model, before, stride(model, before))
    speed = before.velocities.norm(dim=1)
    # Forward by v t, back by 0.9 v t; 0.81 of the velocity is left.
    torch.testing.assert_close(errors.positions, 0.1 * HORIZON * speed)
    torch.testing.assert_close(errors.velocities, 0.19 * speed)


def test_systems_of_a_batch_are_apart():
    model = Kicker(1, 0.01)
    batch = state_from_atoms([heavy(), heavy(3)])
    errors = reversal_errors(model, batch, stride(model, batch))
    # A steady kick is a steady force: velocities come back, free flight does not. Of
    # the second atom, which conservation halves.
    torch.testing.assert_close(
        errors.positions[:2], torch.full((2,), 0.005 * HORIZON).double()
    )
    assert float(errors.positions[2:].max()) < 1e-14


def test_a_wrong_model_that_reverses_is_not_seen():
    exact, atoms = crystal(2)
    before = state_from_atoms(atoms)
    wrong = Ballistic(HORIZON)
    after = stride(wrong, before)
    truth = stride(exact, before)
    assert float((after.positions - truth.positions).norm(dim=1).max()) > 1e-4
    assert float(reversal_errors(wrong, before, after).positions.max()) < 1e-14


def test_an_imposed_angular_momentum_turns_round():
    rule = Conservation(fixed_angular=(0.0, 0.0, 0.5))
    model, before = Ballistic(HORIZON, conservation=rule), state_from_atoms(water())
    # A start that turns as the model imposes, so that forward nothing is corrected.
    before = stride(model, before)
    slow = before.moved(before.positions, before.velocities * 1e-6)
    start = slow.moved(slow.positions, stride(model, slow).velocities)
    errors = reversal_errors(model, start, stride(model, start))
    speed = float(start.velocities.norm(dim=1).max())
    assert float(errors.velocities.max()) < 0.2 * speed


def test_tails_of_known_distributions():
    draws = np.random.default_rng(0).random(1_000_000)
    for values, rare in (
        (-np.log(draws), -np.log(1e-6)),  # exponential
        (draws**-0.25, 1e-6**-0.25),  # shape 1/4
    ):
        found = fit_tail(values[:100_000])
        assert found.share == 200 / 100_000
        # 200 excesses, three decades beyond the threshold.
        assert found.limit(1e-6) == pytest.approx(rare, rel=0.35)
        share = (values > found.limit(1e-4)).mean()
        assert 0.5e-4 < share < 2e-4
    ended = fit_tail(draws[:10_000])
    assert ended.shape == 0.0
    assert ended.limit(0.5) == ended.threshold


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.arange(99.0), "needs 100 finite values"),
        (np.full(200, np.nan), "needs 100 finite values"),
        (np.ones(200), "no tail"),
    ],
)
def test_values_without_a_tail_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        fit_tail(values)


def missed(n_systems: int, size: int, seed: int) -> Missed:
    rng = np.random.default_rng(seed)
    x, v = np.linalg.norm(rng.normal(size=(2, n_systems * size, 3)), axis=2)
    numbers = np.tile([8, 1, 1], n_systems * size // 3)
    return Missed(
        numbers,
        np.where(numbers == 8, 1e-3, 4e-3) * x,
        np.where(numbers == 8, 1e-4, 3e-4) * v,
        np.full(n_systems, size),
    )


def share_beyond(limits: ReversalLimits, found: Missed, rate: float):
    """Return the share of systems beyond either limit, one by one."""
    alarms, start = [0, 0], 0
    for size in found.sizes:
        own = slice(start, start + size)
        scales = np.array(
            [
                [limits.elements[s].displacement, limits.elements[s].velocity]
                for s in ("O", "H", "H") * (size // 3)
            ]
        )
        both = np.stack([found.positions[own], found.velocities[own]], axis=1) / scales
        squares = (both**2).mean(axis=1)
        alarms[0] += squares.max() > limits.atom_limit(size, rate) ** 2
        alarms[1] += squares.mean() > limits.system_limit(size, rate) ** 2
        start += size
    return np.array(alarms) / len(found.sizes)


def test_limits_have_the_rate_of_false_alarms_that_was_asked_for():
    limits = fit_limits(missed(1000, 12, 0))
    assert limits.elements["H"].displacement == pytest.approx(4e-3 * 3**0.5, rel=0.02)
    assert limits.elements["O"].velocity == pytest.approx(1e-4 * 3**0.5, rel=0.02)
    for size in (12, 3, 48):  # smaller and larger systems, too
        shares = share_beyond(limits, missed(12_000 // size * 4, size, size), 1e-2)
        assert 0.002 < shares[0] < 0.025
        assert shares[1] < 0.025
    # Larger systems than it was measured on get no narrower limits.
    assert limits.system_limit(48, 1e-3) == limits.system_limit(12, 1e-3)
    assert limits.system_limit(3, 1e-3) > limits.system_limit(12, 1e-3)


def test_limits_cannot_be_had_of_everything():
    with pytest.raises(ValueError, match="need 100 pairs or more, not 99"):
        fit_limits(missed(99, 3, 0))
    exact = missed(100, 3, 0)
    exact.positions[exact.atomic_numbers == 8] = 0.0
    with pytest.raises(ValueError, match="misses the start of O by 0 Å"):
        fit_limits(exact)


def test_guard_names_the_atom_and_its_system():
    model = Kicker(4, 0.2)
    batch = state_from_atoms([water(0), water(1)])
    guard = ReversalGuard(5, limits=LIMITS)
    after = stride(model, batch)
    found = guard.find(model, batch, after)
    assert {one.system for one in found} == {1}
    worst = found[0]
    assert worst.atom == 4
    assert worst.value > worst.limit == LIMITS.atom_limit(3, 0.5e-6)
    assert "start of H (atom 1) by" in worst.text
    assert found[1].atom is None
    assert "over all 3 atoms" in found[1].text
    assert (
        guard.find(Ballistic(HORIZON), batch, stride(Ballistic(HORIZON), batch)) == []
    )
    tolerant = ReversalGuard(limits=LIMITS, false_alarms=0.5)
    assert tolerant.find(model, batch, after)[0].limit < worst.limit


def test_what_never_comes_back_is_found():
    guard = ReversalGuard(limits=LIMITS)
    batch = state_from_atoms(water())
    broken = Kicker(0, float("nan"))
    found = guard.find(broken, batch, stride(Ballistic(HORIZON), batch))
    assert found[0].value == np.inf


def test_noise_is_left_out_and_draws_nothing():
    loud = ResidualCovariance(0.1, 0.0, 0.1)
    noise = ForecastNoise({"O": loud, "H": loud}, np.random.default_rng(3))
    model = NoisyModel(Ballistic(HORIZON), noise)
    before = state_from_atoms(water())
    after = stride(model, before)
    drawn = noise.streams.generators[0].bit_generator.state
    assert ReversalGuard(limits=LIMITS).find(model, before, after) == []
    assert noise.streams.generators[0].bit_generator.state == drawn


def test_limits_come_from_the_model_file(tmp_path):
    path, other = tmp_path / "one.trajcast", tmp_path / "two.trajcast"
    save_model(small_model(), path, metadata=ModelCard(errors={"n_pairs": 7}))
    old = load_model(path)
    before = state_from_atoms(water())
    with pytest.raises(ValueError, match=r"trajcast evaluate MODEL RUN --write-model"):
        ReversalGuard().find(old, before, before)
    with pytest.raises(ValueError, match="Ballistic carries no limits"):
        ReversalGuard().find(Ballistic(HORIZON), before, before)
    header = with_reversal(path, LIMITS, other)
    assert reversal_limits(other) == reversal_limits(load_model(other)) == LIMITS
    assert header.errors["n_pairs"] == 7
    kept = [
        key
        for key in header.__slots__
        if key not in {"errors", "name", "file_sha256", "n_bytes"}
    ]
    assert all(getattr(header, key) == getattr(old.header, key) for key in kept)
    for ours, theirs in zip(
        load_model(other).parameters(), old.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs)
    only_oxygen = replace(LIMITS, elements={"O": LIMITS.elements["O"]})
    with pytest.raises(ValueError, match="limits for going back lack H"):
        ReversalGuard(limits=only_oxygen).find(old, before, before)


WRONG = [
    ("n_pairs", 3, "n_pairs = 3 must be an integer"),
    ("n_atoms", True, "n_atoms = True"),
    ("elements", {}, "elements is empty"),
    ("elements", {"qq": {"displacement": 1.0, "velocity": 1.0}}, "no symbol"),
    ("elements", {"H": {"displacement": 0, "velocity": 1.0}}, "must be positive"),
    ("elements", {"H": {"displacement": 1.0}}, "must have the keys"),
    ("atom", None, "atom = None must be a dict"),
    ("atom", asdict(TAIL) | {"shape": 0.7}, "atom.shape = 0.7 must lie between"),
    ("atom", asdict(TAIL) | {"scale": 0}, "atom.scale = 0 must be positive"),
    ("system", asdict(TAIL) | {"share": "1"}, "system.share = '1'"),
    ("system", {"share": 0.1}, "must have the keys"),
    ("more", 1, "must have the keys"),
]


@pytest.mark.parametrize(("key", "value", "message"), WRONG)
def test_wrong_limits_are_refused(tmp_path, key, value, message):
    content = asdict(LIMITS) | {key: value}
    card = ModelCard(errors={"reversal": content})
    with pytest.raises(ModelFileError, match=message):
        save_model(small_model(), tmp_path / "one.trajcast", metadata=card)


@pytest.mark.parametrize(
    "options",
    [{"every": 0}, {"every": True}, {"every": 2.0}, {"false_alarms": 0.0}],
)
def test_wrong_settings_are_refused(options):
    with pytest.raises(ValueError, match=rf"^{next(iter(options))} = "):
        ReversalGuard(**options)


def test_bundled_models_carry_limits():
    assert set(reversal_limits("ethanol-gfn2").elements) == {"H", "C", "O"}
    limits = reversal_limits("paracetamol-7fs")
    assert set(limits.elements) == {"H", "C", "N", "O"}
    assert set(reversal_limits("quartz-30fs").elements) == {"O", "Si"}
    assert set(reversal_limits("water-5fs").elements) == {"H", "O"}


def test_a_stretched_bond_is_found_and_a_thermal_molecule_is_not():
    model, guard, systems = load_model("paracetamol-7fs"), ReversalGuard(), []
    for seed in range(4):
        atoms = paracetamol()
        draw_momenta(atoms, 300.0, np.random.default_rng(seed), model.conservation)
        systems.append(atoms)
    hydrogen = int(np.flatnonzero(systems[2].numbers == 1)[0])
    distances = systems[2].get_distances(hydrogen, range(20))
    distances[hydrogen] = np.inf
    systems[2].set_distance(
        int(distances.argmin()), hydrogen, distances.min() + 0.3, fix=0
    )
    batch = state_from_atoms(systems)
    with torch.no_grad():
        found = guard.find(model, batch, stride(model, batch))
    assert {one.system for one in found} == {2}
    assert found[0].atom // 20 == 2
    # The bond's other atom, or one next to it, may miss by more.
    assert systems[2].get_distance(hydrogen, found[0].atom % 20) < 3.0

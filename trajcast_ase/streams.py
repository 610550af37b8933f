"""Random numbers: a stream for each system, and of replicas for each purpose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

KEY_BYTES = 8
RandomSource = np.random.Generator | np.random.RandomState


class Purpose(IntEnum):
    """What a replica draws random numbers for."""

    THERMOSTAT = 0
    NOISE = 1
    VELOCITIES = 2


def random_stream(seed: int, replica: int, purpose: Purpose) -> np.random.Generator:
    """Return the random numbers of one replica for one purpose.

    They come from the counter-based generator Philox and do not depend on which other
    replicas there are.

    Parameters
    ----------
    seed : int, from 0 to 2¹²⁸ - 1
    replica : int, from 0 to 2³² - 1
        Number of the replica.
    purpose : Purpose

    Raises
    ------
    ValueError
        Seed or replica out of range, where streams would not be distinct.
    """
    for name, value, bits in (("seed", seed, 128), ("replica", replica, 32)):
        if not 0 <= value < 2**bits:
            raise ValueError(f"{name} = {value} is not between 0 and 2^{bits} - 1")
    # Not a list of the three: a long seed would run into the number of the replica.
    words = np.random.SeedSequence(seed, spawn_key=(replica, purpose))
    key = words.generate_state(2, np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


class Streams:
    """The random numbers of a batch: each system draws from a generator of its own.

    Parameters
    ----------
    generators : sequence of numpy Generator or RandomState
        One for each system, in the order of the batch.

    Raises
    ------
    TypeError
        One of them is no generator.
    """

    def __init__(self, generators: Iterable[RandomSource]) -> None:
        self.generators = tuple(generators)
        for rng in self.generators:
            if not hasattr(rng, "standard_gamma"):
                raise TypeError(
                    f"rng = {rng!r} is no random number generator; pass "
                    "np.random.default_rng(seed)"
                )

    @classmethod
    def of(cls, rng: RandomSource | Streams | None) -> Streams:
        """Return streams as they are, or those of one system; None: a fresh one."""
        if isinstance(rng, Streams):
            return rng
        return cls([np.random.default_rng() if rng is None else rng])

    def __len__(self) -> int:
        """Return the number of systems."""
        return len(self.generators)

    def states(self) -> tuple[Any, ...]:
        """Return the state of each generator, from which its numbers go on."""
        return tuple(_state(rng) for rng in self.generators)

    def restore(self, states: Sequence[Any], systems: Iterable[int]) -> None:
        """Put the generators of `systems` back to their places in `states`."""
        for k in systems:
            _set_state(self.generators[k], states[k])

    def normals(self, n_systems: int) -> Float[Tensor, " systems"]:
        """Return a unit normal for each system."""
        self.check_systems(n_systems)
        drawn = [rng.standard_normal() for rng in self.generators]
        return torch.tensor(drawn, dtype=torch.float64)

    def chi_squared(self, n_dof: Sequence[int]) -> Float[Tensor, " systems"]:
        """Return a chi-squared variate for each system, of 0 degrees of freedom 0."""
        self.check_systems(len(n_dof))
        # Twice a gamma variate of shape n/2 is chi-squared with n degrees of freedom.
        drawn = [
            2.0 * rng.standard_gamma(0.5 * n)
            for rng, n in zip(self.generators, n_dof, strict=True)
        ]
        return torch.tensor(drawn, dtype=torch.float64)

    def normal_vectors(self, sizes: Sequence[int]) -> Float[Tensor, "atoms 3"]:
        """Return vectors of unit normals for each atom; `sizes` are atoms a system."""
        self.check_systems(len(sizes))
        drawn = [
            rng.standard_normal((size, 3))
            for rng, size in zip(self.generators, sizes, strict=True)
        ]
        return torch.from_numpy(np.concatenate(drawn))

    def key(self, system: int) -> int:
        """Return a key of 63 bits, never 0, drawn from the generator of a system."""
        drawn = int.from_bytes(self.generators[system].bytes(KEY_BYTES), "little")
        return max(drawn >> 1, 1)

    def check_systems(self, n_systems: int) -> None:
        """Raise ValueError unless there is a generator for each of the systems."""
        if n_systems != len(self.generators):
            raise ValueError(
                f"a thermostat with random numbers for {len(self.generators)} "
                f"system(s) cannot act on {n_systems}; give each run a thermostat of "
                "its own, and run replicas with Replicas.run"
            )


def generator_state(rng: RandomSource) -> dict[str, Any]:
    """Return the state of a generator as plain values."""
    state: dict[str, Any] = _plain(_state(rng))
    return state


def set_generator_state(rng: RandomSource, state: Mapping[str, Any]) -> None:
    """Let a generator go on from what :func:`generator_state` returned.

    Raises
    ------
    ValueError
        The state is of another kind of generator, or of none.
    """
    own = _state(rng)
    if state.get("bit_generator") != own["bit_generator"]:
        raise ValueError(
            f"the random numbers were of a {state.get('bit_generator')}, but those "
            f"that shall go on are of a {own['bit_generator']}; give the same kind"
        )
    try:
        _set_state(rng, _like(state, own))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"this is no state of a {own['bit_generator']} ({error})"
        ) from error


def _state(rng: RandomSource) -> Any:
    if isinstance(rng, np.random.RandomState):
        return rng.get_state(legacy=False)
    return rng.bit_generator.state


def _set_state(rng: RandomSource, state: Any) -> None:
    if isinstance(rng, np.random.RandomState):
        rng.set_state(state)
    else:
        rng.bit_generator.state = state


def _plain(value: Any) -> Any:
    """Return a state with lists instead of arrays."""
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _like(value: Any, template: Any) -> Any:
    """Return plain values with arrays where `template` has them."""
    if isinstance(template, Mapping):
        return {name: _like(value[name], one) for name, one in template.items()}
    if isinstance(template, np.ndarray):
        array = np.array(value, dtype=template.dtype)
        if array.shape != template.shape:
            raise ValueError(f"{array.shape} numbers instead of {template.shape}")
        return array
    return value

"""Random numbers of replicas."""

from itertools import product

import numpy as np
import pytest

from trajcast_ase.streams import Purpose, random_stream


def test_every_replica_and_purpose_has_a_stream_of_its_own():
    keys = list(product((0, 1), (0, 1, 2), Purpose))
    drawn = {random_stream(*key).integers(2**63) for key in keys}
    assert len(drawn) == len(keys)


@pytest.mark.parametrize("words", [(1, 5), (0, 0, 7), (2, 3, 4, 5)])
def test_long_seeds_do_not_run_into_the_replica(words):
    """In a list, the words of a long seed would look like those that follow."""
    *low, last = words
    seed = sum(word << (32 * k) for k, word in enumerate(low))
    longer = seed + (last << (32 * len(low)))
    keys = [(longer, 0), (seed, last), (longer, last), (seed, 0)]
    drawn = {random_stream(*key, Purpose.THERMOSTAT).integers(2**63) for key in keys}
    assert len(drawn) == 4


@pytest.mark.parametrize(
    ("seed", "replica", "name"),
    [(-1, 0, "seed"), (2**128, 0, "seed"), (0, -1, "replica"), (0, 2**32, "replica")],
)
def test_numbers_out_of_range_are_refused(seed, replica, name):
    with pytest.raises(ValueError, match=f"{name} = .* is not between 0 and 2"):
        random_stream(seed, replica, Purpose.NOISE)


def test_a_stream_repeats():
    first, second = (random_stream(3, 5, Purpose.NOISE) for _ in range(2))
    np.testing.assert_array_equal(first.normal(size=9), second.normal(size=9))

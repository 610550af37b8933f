"""Random numbers of replicas."""

from itertools import product

import numpy as np

from trajcast_ase.streams import Purpose, random_stream


def test_every_replica_and_purpose_has_a_stream_of_its_own():
    keys = list(product((0, 1), (0, 1, 2), Purpose))
    drawn = {random_stream(*key).integers(2**63) for key in keys}
    assert len(drawn) == len(keys)


def test_a_stream_repeats():
    first, second = (random_stream(3, 5, Purpose.NOISE) for _ in range(2))
    np.testing.assert_array_equal(first.normal(size=9), second.normal(size=9))

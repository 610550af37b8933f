"""Philox4x32-10: random numbers as a function of a counter and a key.

No state has to be kept or passed on: the same counter gives the same numbers, on any
device, in any batch. Salmon et al., SC '11, doi:10.1145/2063384.2063405. In int64,
since torch multiplies no unsigned numbers.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

WORD = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10

Counter = tuple[Tensor, Tensor, Tensor, Tensor]
"""Four words of 32 bits, int64 tensors that broadcast."""
Key = tuple[Tensor, Tensor]
"""Two words of 32 bits, int64 tensors that broadcast."""


def philox(counter: Counter, key: Key) -> Counter:
    """Return four random words of 32 bits for each counter."""
    a, b, c, d = counter
    left, right = key
    for _ in range(ROUNDS):
        high, low = _wide_product(a, MULTIPLIERS[0])
        other_high, other_low = _wide_product(c, MULTIPLIERS[1])
        a, b = other_high ^ b ^ left, other_low
        c, d = high ^ d ^ right, low
        left, right = (left + WEYL[0]) & WORD, (right + WEYL[1]) & WORD
    return a, b, c, d


def words(number: Int[Tensor, "*shape"]) -> Key:
    """Return the low and the high word of non-negative int64 numbers."""
    return number & WORD, (number >> 32) & WORD


def uniforms(
    words_drawn: Counter,
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Return two uniform numbers between 0 and 1, neither included, float64."""
    a, b, c, d = words_drawn
    return _uniform(a, b), _uniform(c, d)


def normals(
    words_drawn: Counter,
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Return two unit normals, float64, by Box and Muller's transformation."""
    first, second = uniforms(words_drawn)
    radius = torch.sqrt(-2.0 * torch.log(first))
    angle = 2.0 * math.pi * second
    return radius * torch.cos(angle), radius * torch.sin(angle)


def _wide_product(word: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """Return the high and the low word of a product of 64 bits."""
    product = word * multiplier  # modulo 2^64, of which int64 keeps every bit
    return (product >> 32) & WORD, product & WORD


def _uniform(a: Tensor, b: Tensor) -> Tensor:
    """Return 52 random bits as the middle of one of 2^52 intervals."""
    bits = ((a >> 6) << 26) | (b >> 6)
    return (bits.double() + 0.5) * 2.0**-52

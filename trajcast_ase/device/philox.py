"""Philox4x32-10: random numbers as a function of a counter and a key.

No state has to be kept or passed on: the same counter gives the same numbers, on any
device, in any batch. Salmon et al., SC '11, doi:10.1145/2063384.2063405. In int64,
since torch multiplies no unsigned numbers; all counters of a stride at once, since each
operation on a GPU takes as long for many numbers as for few.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

WORD = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10


@dataclass(frozen=True, slots=True)
class Philox:
    """The generator, with its constants where it computes.

    Attributes
    ----------
    multipliers : (2, 1) int64
    steps : (10, 2, 1) int64
        What each round adds to a key.
    """

    multipliers: Int[Tensor, "2 1"]
    steps: Int[Tensor, "rounds 2 1"]

    @classmethod
    def on(cls, device: torch.device) -> Philox:
        """Return the generator on a device."""
        weyl = torch.tensor(WEYL)[:, None]
        steps = torch.arange(ROUNDS)[:, None, None] * weyl
        multipliers = torch.tensor(MULTIPLIERS)[:, None]
        return cls(multipliers.to(device), (steps & WORD).to(device))

    def words(
        self, counters: Int[Tensor, "4 n"], keys: Int[Tensor, "2 n"]
    ) -> tuple[Int[Tensor, "2 n"], Int[Tensor, "2 n"]]:
        """Return words 0 and 2, and words 1 and 3, of 32 random bits each."""
        even, odd = counters[0::2], counters[1::2]
        for key in ((keys + self.steps) & WORD).unbind(0):
            # Modulo 2^64, of which int64 keeps every bit.
            products = (even * self.multipliers).flip(0)
            even, odd = ((products >> 32) & WORD) ^ odd ^ key, products & WORD
        return even, odd

    def uniforms(
        self, counters: Int[Tensor, "4 n"], keys: Int[Tensor, "2 n"]
    ) -> Float[Tensor, "2 n"]:
        """Return two numbers between 0 and 1, neither included, for each counter.

        Each is the middle of one of 2^52 intervals, float64.
        """
        even, odd = self.words(counters, keys)
        bits = ((even >> 6) << 26) | (odd >> 6)
        return (bits.double() + 0.5) * 2.0**-52


def halves(
    numbers: Int[Tensor, " n"],
) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """Return the low and the high word of non-negative int64 numbers."""
    return numbers & WORD, (numbers >> 32) & WORD


def normals(uniforms: Float[Tensor, "2 n"]) -> Float[Tensor, "2 n"]:
    """Return two unit normals for two uniform numbers, by Box and Muller."""
    first, second = uniforms.unbind(0)
    radius = torch.sqrt(-2.0 * torch.log(first))
    angle = 2.0 * math.pi * second
    return radius * torch.stack([torch.cos(angle), torch.sin(angle)])

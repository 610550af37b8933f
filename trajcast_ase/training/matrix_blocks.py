"""Weight matrices of equal shape, handled together by an optimiser."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

Shapes = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Stack:
    """Blocks of one shape, which are handled together.

    Attributes
    ----------
    shape : (rows, columns)
    members : tuple of (Parameter, start)
        Where in the flattened parameter each block begins.
    """

    shape: tuple[int, int]
    members: tuple[tuple[nn.Parameter, int], ...]

    @property
    def owner(self) -> nn.Parameter:
        """The parameter under which the optimiser keeps the state of the stack."""
        return self.members[0][0]

    def gradients(self) -> Float[Tensor, "blocks rows columns"]:
        """Return the gradients, zero where there is none."""
        return torch.stack(
            [
                self._block(torch.zeros_like(p) if p.grad is None else p.grad, start)
                for p, start in self.members
            ]
        )

    def weights(self) -> list[Float[Tensor, "rows columns"]]:
        """Return views of the weights."""
        return [self._block(p, start) for p, start in self.members]

    def _block(self, tensor: Tensor, start: int) -> Float[Tensor, "rows columns"]:
        size = self.shape[0] * self.shape[1]
        return tensor.view(-1)[start : start + size].view(self.shape)


def stacks(blocks: Iterable[tuple[nn.Parameter, Shapes]]) -> tuple[Stack, ...]:
    """Return the blocks of all parameters, stacked by shape.

    Raises
    ------
    ValueError
        The blocks do not fill a parameter.
    """
    by_shape: dict[tuple[int, int], list[tuple[nn.Parameter, int]]] = {}
    for parameter, shapes in blocks:
        start = 0
        for rows, columns in shapes:
            by_shape.setdefault((rows, columns), []).append((parameter, start))
            start += rows * columns
        if start != parameter.numel():
            raise ValueError(
                f"blocks {shapes} do not fill a parameter of {parameter.numel()} "
                "numbers"
            )
    return tuple(Stack(shape, tuple(found)) for shape, found in by_shape.items())


class StackState:
    """The optimiser state of one stack among those that share their owner's."""

    def __init__(self, state: dict[str, Tensor], shape: tuple[int, int]) -> None:
        self._state = state
        self._prefix = f"{shape[0]}x{shape[1]}-"

    def __contains__(self, name: str) -> bool:
        return self._prefix + name in self._state

    def __getitem__(self, name: str) -> Tensor:
        return self._state[self._prefix + name]

    def __setitem__(self, name: str, value: Tensor) -> None:
        self._state[self._prefix + name] = value

    def get(self, name: str) -> Tensor | None:
        """Return a tensor, or None where there is none."""
        return self._state.get(self._prefix + name)

"""SOAP: Adam in the eigenbases of the gradients' row and column covariances."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

Shapes = tuple[tuple[int, int], ...]

# Far below the gradients of a trained network, far above rounding: what vanishes by
# symmetry must not be blown up to a full update.
NOISE_FLOOR = 1e-9


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


class Soap(torch.optim.Optimizer):
    """Adam in the eigenbases of the gradients' row and column covariances.

    The bases follow the covariances slowly, by one power iteration every few steps. A
    side longer than `longest_side` keeps its own basis.

    Parameters
    ----------
    params : iterable of (Parameter, shapes)
        Shapes of the matrices in each parameter; their sizes sum to its length.
    lr : float
    betas : (float, float)
        Decay of the mean gradient, and of the mean of its squares in the eigenbasis.
    covariance_decay : float
    refresh_every : int
        Steps between updates of the bases.
    longest_side : int
    weight_decay : float
        Decoupled.

    Notes
    -----
    Vyas et al., arXiv:2409.11321; for interatomic potentials arXiv:2607.02499.
    Measured benefit here: docs/training.md.
    """

    def __init__(
        self,
        params: Iterable[tuple[nn.Parameter, Shapes]],
        lr: float,
        *,
        betas: tuple[float, float] = (0.95, 0.95),
        covariance_decay: float = 0.95,
        refresh_every: int = 10,
        longest_side: int = 256,
        weight_decay: float = 0.0,
    ) -> None:
        blocks = list(params)
        self.stacks = stacks(blocks)
        self.covariance_decay = covariance_decay
        self.refresh_every = refresh_every
        self.longest_side = longest_side
        super().__init__(
            [parameter for parameter, _ in blocks],
            {"lr": lr, "betas": betas, "weight_decay": weight_decay},
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # overloads of the base
        """Apply one update; the first call only finds the bases."""
        loss = None if closure is None else closure()
        group = self.param_groups[0]
        for stack in self.stacks:
            state = _View(self.state[stack.owner], stack.shape)
            gradients = stack.gradients()
            if "step" not in state:
                self._start(state, gradients)
                continue
            update = self._update(state, gradients, group["betas"])
            for weight, change in zip(stack.weights(), update, strict=True):
                weight.mul_(1.0 - group["lr"] * group["weight_decay"])
                weight.add_(change, alpha=-group["lr"])
            self._follow(state, gradients)
        return loss

    def _start(
        self, state: _View, gradients: Float[Tensor, "blocks rows columns"]
    ) -> None:
        state["step"] = torch.zeros(())
        state["mean"] = torch.zeros_like(gradients)
        state["square"] = torch.zeros_like(gradients)
        for side, covariance in _covariances(gradients, self.longest_side):
            state[f"{side}-covariance"] = covariance
            basis = torch.linalg.eigh(_unit_trace(covariance))[1]
            state[f"{side}-basis"] = basis.contiguous()

    def _update(
        self,
        state: _View,
        gradients: Float[Tensor, "blocks rows columns"],
        betas: tuple[float, float],
    ) -> Float[Tensor, "blocks rows columns"]:
        """Return Adam's update, made in the eigenbases."""
        left, right = state.get("left-basis"), state.get("right-basis")
        step = state["step"].add_(1.0)
        mean = state["mean"].lerp_(gradients, 1.0 - betas[0])
        square = state["square"].lerp_(
            _into(gradients, left, right).square(), 1.0 - betas[1]
        )
        biases = [1.0 - beta ** float(step) for beta in betas]
        scale = torch.sqrt(square / biases[1]) + NOISE_FLOOR
        return _out_of(_into(mean, left, right) / biases[0] / scale, left, right)

    def _follow(
        self, state: _View, gradients: Float[Tensor, "blocks rows columns"]
    ) -> None:
        """Let covariances follow the gradients, and now and then the bases them."""
        for side, fresh in _covariances(gradients, self.longest_side):
            covariance = state[f"{side}-covariance"]
            covariance.lerp_(fresh, 1.0 - self.covariance_decay)
            if int(state["step"]) % self.refresh_every == 0:
                basis, order = _refreshed(state[f"{side}-basis"], covariance)
                state[f"{side}-basis"] = basis
                state["square"] = _reordered(state["square"], order, side)


class _View:
    """The state of one stack among those that share a parameter's."""

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


def _covariances(
    gradients: Float[Tensor, "blocks rows columns"], longest: int
) -> list[tuple[str, Float[Tensor, "blocks side side"]]]:
    """Return the covariance of each side that is not too long."""
    found = []
    if gradients.shape[1] <= longest:
        found.append(("left", gradients @ gradients.mT))
    if gradients.shape[2] <= longest:
        found.append(("right", gradients.mT @ gradients))
    return found


def _unit_trace(
    covariance: Float[Tensor, "blocks side side"],
) -> Float[Tensor, "blocks side side"]:
    trace = covariance.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None]
    return covariance / trace.clamp_min(NOISE_FLOOR**2)


def _into(
    matrices: Float[Tensor, "blocks rows columns"],
    left: Tensor | None,
    right: Tensor | None,
) -> Float[Tensor, "blocks rows columns"]:
    turned = matrices if left is None else left.mT @ matrices
    return turned if right is None else turned @ right


def _out_of(
    matrices: Float[Tensor, "blocks rows columns"],
    left: Tensor | None,
    right: Tensor | None,
) -> Float[Tensor, "blocks rows columns"]:
    turned = matrices if left is None else left @ matrices
    return turned if right is None else turned @ right.mT


def _refreshed(
    basis: Float[Tensor, "blocks side side"],
    covariance: Float[Tensor, "blocks side side"],
) -> tuple[Float[Tensor, "blocks side side"], Tensor]:
    """Return the basis after one power iteration, and the new order of its vectors.

    Contiguous, as it will be when read from a checkpoint: products round by layout.
    """
    scaled = _unit_trace(covariance)
    strengths = (basis * (scaled @ basis)).sum(dim=1)
    order = strengths.argsort(dim=1, descending=True)
    sorted_basis = basis.gather(2, order[:, None, :].expand_as(basis))
    return torch.linalg.qr(scaled @ sorted_basis)[0].contiguous(), order


def _reordered(
    square: Float[Tensor, "blocks rows columns"], order: Tensor, side: str
) -> Float[Tensor, "blocks rows columns"]:
    index = order[:, :, None] if side == "left" else order[:, None, :]
    return square.gather(1 if side == "left" else 2, index.expand_as(square))

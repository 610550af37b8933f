"""SOAP: Adam in the eigenbases of the gradients' row and column covariances."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trajcast_ase.training.matrix_blocks import Shapes, StackState, stacks

# Far below the gradients of a trained network, far above rounding: what vanishes by
# symmetry must not be blown up to a full update.
NOISE_FLOOR = 1e-9


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
            state = StackState(self.state[stack.owner], stack.shape)
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
        self, state: StackState, gradients: Float[Tensor, "blocks rows columns"]
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
        state: StackState,
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
        self, state: StackState, gradients: Float[Tensor, "blocks rows columns"]
    ) -> None:
        """Let covariances follow the gradients, and now and then the bases them."""
        for side, fresh in _covariances(gradients, self.longest_side):
            covariance = state[f"{side}-covariance"]
            covariance.lerp_(fresh, 1.0 - self.covariance_decay)
            if int(state["step"]) % self.refresh_every == 0:
                basis, order = _refreshed(state[f"{side}-basis"], covariance)
                state[f"{side}-basis"] = basis
                state["square"] = _reordered(state["square"], order, side)


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

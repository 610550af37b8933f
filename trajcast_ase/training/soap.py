"""SOAP: Adam in the eigenbases of the gradients' row and column covariances."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trajcast_ase.training.matrix_blocks import Shapes, Stack, StackState, stacks
from trajcast_ase.training.rule import Number, Rule, descend

# Far below the gradients of a trained network, far above rounding: what vanishes by
# symmetry must not be blown up to a full update.
NOISE_FLOOR = 1e-9
SIDES = ("left", "right")


class Soap(Rule):
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
    def begin(self) -> bool:
        """Find the first bases, which is all that the first step does."""
        begun = False
        for stack in self.stacks:
            state = self._state_of(stack)
            if "step" not in state:
                self._start(state, stack.gradients())
                begun = True
        return begun

    @torch.no_grad()
    def apply(self, rate: Number, sound: Number) -> None:
        """Change weights and state; see :meth:`.Rule.apply`."""
        kept = 1.0 - rate * sound * self.param_groups[0]["weight_decay"]
        for stack in self.stacks:
            state, gradients = self._state_of(stack), stack.gradients()
            change = self._update(state, gradients, sound) * (rate * sound)
            descend(stack.weights(), change.unbind(0), kept)
            weight = ((1.0 - self.covariance_decay) * sound).to(gradients.dtype)
            for side, fresh in _covariances(gradients, self.longest_side):
                state[f"{side}-covariance"].lerp_(fresh, weight)

    @torch.no_grad()
    def refresh(self, step: int) -> None:
        """Let the bases follow the covariances, every few steps."""
        if step % self.refresh_every:
            return
        for stack in self.stacks:
            state = self._state_of(stack)
            for side in SIDES:
                covariance = state.get(f"{side}-covariance")
                if covariance is not None:
                    basis, order = _refreshed(state[f"{side}-basis"], covariance)
                    state[f"{side}-basis"].copy_(basis)
                    state["square"].copy_(_reordered(state["square"], order, side))

    def _state_of(self, stack: Stack) -> StackState:
        return StackState(self.state[stack.owner], stack.shape)

    def _start(
        self, state: StackState, gradients: Float[Tensor, "blocks rows columns"]
    ) -> None:
        state["step"] = torch.zeros((), device=gradients.device)
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
        sound: Number,
    ) -> Float[Tensor, "blocks rows columns"]:
        """Return Adam's update, made in the eigenbases."""
        left, right = state.get("left-basis"), state.get("right-basis")
        # Before the first step there is nothing to divide by; nor is anything changed.
        count = state["step"].add_(sound).double().clamp(min=1.0)
        first, second = self.param_groups[0]["betas"]
        dtype = gradients.dtype
        mean = state["mean"].lerp_(gradients, ((1.0 - first) * sound).to(dtype))
        square = state["square"].lerp_(
            _into(gradients, left, right).square(), ((1.0 - second) * sound).to(dtype)
        )
        scale = torch.sqrt(square / (1.0 - torch.pow(second, count))) + NOISE_FLOOR
        turned = _into(mean, left, right) / (1.0 - torch.pow(first, count))
        return _out_of(turned / scale, left, right)


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

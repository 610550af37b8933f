"""A training step written plainly, which reads what it likes on the host."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from trajcast_ase.training.matrix_blocks import stacks
from trajcast_ase.training.optimizer import (
    SOAP_SQUARE_DECAY,
    UPDATE_RMS,
    matrix_blocks,
    orthogonalize,
)


class PlainUpdate:
    """What :class:`trajcast_ase.training.update.Update` does, one thing at a time."""

    def __init__(self, model, options):
        self.model, self.options = model, options
        self.average = AveragedModel(model, multi_avg_fn=average_of(options.ema_decay))
        self.optimizers = plain_optimizers(model, options)

    def __call__(self, rate):
        norm = nn.utils.clip_grad_norm_(
            self.model.parameters(), self.options.gradient_clip
        )
        if not bool(torch.isfinite(norm)):
            return
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        self.average.update_parameters(self.model)


def average_of(decay):
    """Return the update of an average that forgets its beginning."""

    def update(averages, current, n_averaged):
        n = int(n_averaged)
        for average, now in zip(averages, current, strict=True):
            average.data.lerp_(now.data, 1 - min(decay, (1 + n) / (10 + n)))

    return update


def plain_optimizers(model, options):
    """Return those of torch, and the two below."""
    adam = {"lr": options.learning_rate, "betas": options.betas}
    if options.optimizer == "adam-amsgrad":
        return [torch.optim.Adam(model.parameters(), amsgrad=True, **adam)]
    adam["weight_decay"] = options.weight_decay
    if options.optimizer == "adamw":
        return [torch.optim.AdamW(model.parameters(), **adam)]
    blocks = matrix_blocks(model)
    matrices = {id(parameter) for parameter, _ in blocks}
    others = [one for one in model.parameters() if id(one) not in matrices]
    kind = PlainSoap if options.optimizer == "soap" else PlainMuon
    return [kind(blocks, options), torch.optim.AdamW(others, **adam)]


class PlainMatrices:
    """An optimiser of matrices, those of one shape together: so bases round alike."""

    def __init__(self, blocks, options):
        self.options, self.stacks = options, [(one, {}) for one in stacks(blocks)]
        self.param_groups = [{"lr": options.learning_rate}]

    @torch.no_grad()
    def step(self):
        rate = self.param_groups[0]["lr"]
        for stack, state in self.stacks:
            changes = self.changes(stack.gradients(), state)
            for weight, change in zip(stack.weights(), changes, strict=True):
                if state.get("step", 1) > 0:
                    weight.mul_(1.0 - rate * self.options.weight_decay)
                    weight.sub_(rate * change)


class PlainMuon(PlainMatrices):
    def changes(self, gradients, state):
        decay = self.options.momentum
        state["mean"] = decay * state.get("mean", 0) + (1 - decay) * gradients
        ahead = decay * state["mean"] + (1 - decay) * gradients
        return orthogonalize(ahead) * UPDATE_RMS * max(gradients.shape[1:]) ** 0.5


class PlainSoap(PlainMatrices):
    def changes(self, gradients, state):
        covariances = [gradients @ gradients.mT, gradients.mT @ gradients]
        longest = self.options.longest_side
        sides = [k for k in (0, 1) if gradients.shape[k + 1] <= longest]
        if not state:
            state.update(step=0, mean=0, square=0, covariances=covariances)
            state["bases"] = [
                torch.linalg.eigh(scaled(one))[1]
                if k in sides
                else torch.eye(one.shape[1], dtype=one.dtype)
                for k, one in enumerate(covariances)
            ]
            return gradients
        state["step"] += 1
        first, second = self.options.momentum, SOAP_SQUARE_DECAY
        left, right = state["bases"]
        state["mean"] = first * state["mean"] + (1 - first) * gradients
        turned = (left.mT @ gradients @ right).square()
        state["square"] = second * state["square"] + (1 - second) * turned
        scale = (state["square"] / (1 - second ** state["step"])).sqrt() + 1e-9
        mean = left.mT @ state["mean"] @ right / (1 - first ** state["step"])
        for k in sides:
            old = state["covariances"][k]
            state["covariances"][k] = 0.95 * old + 0.05 * covariances[k]
            if state["step"] % self.options.refresh_every == 0:
                self.refresh(state, k)
        return left @ (mean / scale) @ right.mT

    @staticmethod
    def refresh(state, k):
        image = scaled(state["covariances"][k]) @ state["bases"][k]
        order = (state["bases"][k] * image).sum(1).argsort(dim=1, descending=True)
        for n, places in enumerate(order):
            square = state["square"][n].clone()
            state["square"][n] = square.index_select(k, places)
            image[n] = image[n][:, places].clone()
        state["bases"][k] = torch.linalg.qr(image)[0]


def scaled(covariances):
    """Return covariances of unit trace."""
    traces = covariances.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
    return covariances / traces.clamp_min(1e-18)

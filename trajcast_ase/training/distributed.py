"""Processes and threads of one training: alone, or those that ``torchrun`` started."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

PROBES = 3
"""Steps timed with each number of threads."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """The place of this process among `size`.

    Attributes
    ----------
    rank, size : int
    device : str
        On which this process computes: with several processes, an own GPU each.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Return which of `count` things are this process's; perhaps none."""
        return slice(min(self.rank, count), count, self.size)

    def mean(self, value: float) -> float:
        """Return the mean of `value` over all processes."""
        if self.size == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return float(tensor) / self.size

    def largest(self, number: int) -> int:
        """Return the largest `number` of all processes, so that they act alike."""
        if self.size == 1:
            return number
        tensor = torch.tensor(number, device=self.device)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return int(tensor)

    def total(self, values: Float[Tensor, " numbers"]) -> Float[Tensor, " numbers"]:
        """Return the sums of `values` over all processes."""
        if self.size > 1:
            dist.all_reduce(values)
        return values


def share_gradients(
    parameters: Sequence[nn.Parameter], loss: float, weight: float, ranks: Ranks
) -> float:
    """Make gradients those of all processes together; return their loss.

    Each process has a mean over its share of a batch. Means weighted with the sizes of
    the shares are the gradient of one process with all of the batch, whatever the
    sizes; a share may be empty.

    Parameters
    ----------
    parameters : sequence of Parameter
        With the gradients of this process, replaced.
    loss : float
        Of this process.
    weight : float
        Size of its share, 0 for none.
    ranks : Ranks
    """
    grads = [one.grad for one in parameters]
    parts = [
        one.new_zeros(one.numel()) if grad is None else weight * grad.flatten()
        for one, grad in zip(parameters, grads, strict=True)
    ]
    numbers = [weight, weight * loss] + [float(grad is not None) for grad in grads]
    device = parameters[0].device
    flat = torch.cat(
        [torch.tensor(numbers, dtype=torch.float64, device=device), *parts]
    )
    flat = ranks.total(flat)
    whole, heat, *used = flat[: len(numbers)].tolist()
    sums = torch.split(flat[len(numbers) :], [one.numel() for one in parameters])
    for one, summed, has_any in zip(parameters, sums, used, strict=True):
        one.grad = (summed / whole).view_as(one).to(one.dtype) if has_any else None
    return float(heat / whole)


@contextmanager
def process_ranks(device: str) -> Iterator[Ranks]:
    """Join the process group that ``torchrun`` announces, for the block's duration."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Ranks(device=device)
        return
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Ranks(dist.get_rank(), size, device)
    finally:
        dist.destroy_process_group()


@contextmanager
def thread_count(
    wanted: int | Literal["measure"], probe: Callable[[], None], ranks: Ranks
) -> Iterator[int]:
    """Set the number of torch's threads for the block's duration.

    On a busy machine two threads can be many times slower than one, so that
    "measure" times `probe` with 1, 2, 4, ... threads and takes the fastest count.
    """
    before = torch.get_num_threads()
    count = measure_threads(probe, ranks.size) if wanted == "measure" else wanted
    torch.set_num_threads(count)
    try:
        yield count
    finally:
        torch.set_num_threads(before)


def measure_threads(probe: Callable[[], None], n_processes: int = 1) -> int:
    """Return the thread count for which `probe` takes least time."""
    limit = max(1, (os.cpu_count() or 1) // n_processes)
    counts = [1]
    while counts[-1] * 2 <= limit:
        counts.append(counts[-1] * 2)
    if len(counts) == 1:
        return 1
    times = {}
    for count in counts:
        torch.set_num_threads(count)
        probe()
        laps = []
        for _ in range(PROBES):
            start = time.perf_counter()
            probe()
            laps.append(time.perf_counter() - start)
        times[count] = min(laps)
    return min(times, key=lambda count: times[count])

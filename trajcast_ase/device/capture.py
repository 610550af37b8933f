"""One call over and over: made each time, or replayed as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

from trajcast_ase.device.stride import Motion

Step = Callable[[Motion], Motion]
WARM_UP = 3
"""Calls before a capture, in which libraries choose their kernels."""


def captured(call: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Return the replay of `call` as one CUDA graph.

    Parameters
    ----------
    call : callable
        Reads nothing on the host, and leaves what it computes in tensors that are
        there before. It is made a few times before this returns.
    device : torch.device
        A CUDA device.
    """
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.no_grad(), torch.cuda.device(device):
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                call()
        torch.cuda.current_stream(device).wait_stream(stream)
        with torch.cuda.graph(graph):
            call()
    return graph.replay


class Runner(Protocol):
    """Makes strides."""

    @property
    def motion(self) -> Motion:
        """What the strides have come to."""

    def start(self, motion: Motion) -> None:
        """Go on from `motion`, of which a copy is taken."""

    def run(self, strides: int) -> None:
        """Make strides; on a device without waiting for them."""


class Calls:
    """Strides as calls of the function: any device, and what a graph is held to.

    As there, tensors stay where they are and take over the numbers of the next motion.
    """

    def __init__(self, step: Step, motion: Motion) -> None:
        self._step = step
        self.motion = motion.copy()

    def start(self, motion: Motion) -> None:
        """Go on from `motion`, of which a copy is taken."""
        self.motion.write(motion)

    def run(self, strides: int) -> None:
        """Make strides."""
        with torch.no_grad():
            for _ in range(strides):
                self.motion.write(self._step(self.motion))


class Graph:
    """Strides as replays of one CUDA graph, whose tensors stay where they are.

    Parameters
    ----------
    step : callable
        Reads nothing on the host.
    motion : Motion
        On a CUDA device.
    """

    def __init__(self, step: Step, motion: Motion) -> None:
        self.motion = motion.copy()
        self._replay = captured(
            lambda: self.motion.write(step(self.motion)), motion.now.device
        )
        self.motion.write(motion)

    def start(self, motion: Motion) -> None:
        """Go on from `motion`, of which a copy is taken."""
        self.motion.write(motion)

    def run(self, strides: int) -> None:
        """Replay the graph; the host does not wait."""
        for _ in range(strides):
            self._replay()


def runner(step: Step, motion: Motion) -> Runner:
    """Return what makes strides where `motion` is."""
    if motion.now.device.type == "cuda":
        return Graph(step, motion)
    return Calls(step, motion)

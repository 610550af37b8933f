"""How many threads a training step should use on this machine, by measuring."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from trajcast_ase.training.distributed import Ranks

PROBES = 3


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

"""What is said where a GPU runs out of memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

WAY_OUT = (
    "use a smaller system or fewer replicas in a batch (batch_atoms), or device='cpu'"
)


@contextmanager
def explained_memory(
    work: str, n_atoms: int, device: torch.device, way_out: str = WAY_OUT
) -> Iterator[None]:
    """Say in one sentence that a GPU ran out of memory.

    Parameters
    ----------
    work : str
        What the memory was for.
    n_atoms : int
    device : torch.device
    way_out : str

    Raises
    ------
    MemoryError
        Instead of torch's error.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise MemoryError(
            f"{device} has too little memory for {work} of {n_atoms} atoms, fewer fit; "
            f"{way_out}"
        ) from error

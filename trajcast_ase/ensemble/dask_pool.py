"""Workers of dask.distributed: processes of this machine, or a cluster that runs."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client

CONNECT_S = 30.0
"""How long to wait for a cluster that runs."""


@contextmanager
def local_workers(number: int) -> Iterator[Executor]:
    """Start worker processes on this machine, which end with the block.

    One that dies is replaced, and what it did goes to another.

    Parameters
    ----------
    number : int

    Raises
    ------
    ImportError
        dask.distributed is not installed.
    """
    distributed = _distributed()
    with (
        # Without a dashboard, which needs a port, and without a limit of memory: the
        # tensors of a forecast are not what dask could spill.
        distributed.LocalCluster(
            n_workers=number,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            memory_limit=0,
            silence_logs=logging.CRITICAL,  # what fails is raised, by share
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.register_plugin(_deaf())
        with _executor(client) as executor:
            yield executor


@contextmanager
def workers_at(address: str, *, wait_s: float = CONNECT_S) -> Iterator[Executor]:
    """Use the workers of a cluster that runs, which stay.

    Parameters
    ----------
    address : str
        Of its scheduler, such as ``tcp://10.0.0.1:8786``.
    wait_s : float
        For an answer.

    Raises
    ------
    ImportError
        dask.distributed is not installed.
    ConnectionError
        Nothing answers at the address.
    """
    distributed = _distributed()
    try:
        client = distributed.Client(address, timeout=wait_s)
    except (OSError, ValueError) as error:
        raise ConnectionError(
            f"no scheduler of dask answers at {address} ({error}); start one with "
            "`dask scheduler`, and workers with `dask worker ADDRESS --nthreads 1`"
        ) from error
    with client, _executor(client) as executor:
        yield executor


@contextmanager
def _executor(client: Client) -> Iterator[Executor]:
    """Use a client as an executor; what is not done at the end is withdrawn."""
    # Not pure: a share that another call has made before is to be looked at again.
    executor: Executor = client.get_executor(pure=False)
    try:
        yield executor
    finally:
        executor.shutdown(wait=False)


def _distributed() -> Any:
    try:
        import distributed  # noqa: PLC0415  an extra
    except ImportError as error:
        raise ImportError(
            "workers of an ensemble need dask.distributed: pip install "
            "'trajcast-ase[ensemble]'; or give another executor"
        ) from error
    return distributed


def _deaf() -> Any:
    """Return a plugin: an interrupt of the terminal is for the caller alone.

    It tells the workers in order, by files, so that they write checkpoints first.
    """
    from distributed import WorkerPlugin  # noqa: PLC0415  an extra

    class Deaf(WorkerPlugin):
        """Ignores signals that the whole group of processes gets."""

        def setup(self, worker: Any) -> None:  # noqa: ARG002  as dask calls it
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)

    return Deaf()

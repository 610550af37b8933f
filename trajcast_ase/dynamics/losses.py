"""Replicas that failed: the record, the warning and the error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

EXPLAINED = (ValueError, TypeError, NotImplementedError)
"""Errors of input that cannot be forecast."""


@dataclass(frozen=True, slots=True)
class LostReplica:
    """A replica that failed.

    Attributes
    ----------
    number : int
        Of the replica.
    stride : int
        Its last good one, which its Atoms hold.
    reason : str
    error : Exception
        What was raised, with its traceback if any.
    """

    number: int
    stride: int
    reason: str
    error: Exception


class LostReplicaWarning(UserWarning):
    """A replica failed and is left behind; the others go on."""


class LostReplicasError(RuntimeError):
    """Replicas have failed.

    Parameters
    ----------
    lost : sequence of LostReplica
    total : int
        Number of all replicas.
    """

    def __init__(self, lost: Sequence[LostReplica], total: int) -> None:
        each = "; ".join(
            f"replica {one.number} after stride {one.stride} ({one.reason})"
            for one in lost
        )
        number = f"all {total}" if len(lost) == total else f"{len(lost)} of {total}"
        verb = "is" if len(lost) == 1 else "are"
        super().__init__(f"{number} replicas {verb} lost: {each}")
        self.lost = tuple(lost)


def of_replica(error: Exception, number: int) -> Exception:
    """Return an error whose text begins with the number of the replica.

    Of the general class: a subclass may need other arguments than a text.
    """
    kind = next(kind for kind in EXPLAINED if isinstance(error, kind))
    return kind(f"replica {number}: {error}")

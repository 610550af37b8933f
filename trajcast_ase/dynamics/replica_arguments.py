"""The arguments of replicas: systems, paths with a number, sizes of batches."""

from __future__ import annotations

from collections.abc import Sequence

from ase import Atoms

NUMBER = "{replica"
"""What a path must contain for each replica to have a file of its own."""


def check_systems(systems: Sequence[Atoms]) -> None:
    """Raise ValueError for no systems, or one of them twice."""
    if isinstance(systems, Atoms) or len(systems) == 0:
        raise ValueError("give a list of at least one Atoms, one for each replica")
    if len({id(atoms) for atoms in systems}) < len(systems):
        raise ValueError(
            "one Atoms object stands twice in the list; give each replica a copy"
        )


def check_paths(*paths: str | None) -> None:
    """Raise ValueError for a path that all replicas would share."""
    for path in paths:
        if path is not None and NUMBER not in str(path):
            raise ValueError(
                f"the path {path!r} is the same for every replica; put the number in "
                "it, as in 'run-{replica:03d}.traj'"
            )


def numbered(template: str | None, number: int) -> str | None:
    """Return the path of a replica's own file."""
    return None if template is None else str(template).format(replica=number)


def batches(sizes: Sequence[int], limit: int) -> list[range]:
    """Return runs of replicas whose atoms together are at most `limit`."""
    starts, used = [0], 0
    for k, size in enumerate(sizes):
        if used and used + size > limit:
            starts.append(k)
            used = 0
        used += size
    ends = [*starts[1:], len(sizes)]
    return [range(start, end) for start, end in zip(starts, ends, strict=True)]

"""Plant ten faults, one at a time, and show that the tests catch each of them.

``python tests/mutation_check.py`` copies package and tests to a temporary folder,
checks that the tests pass there, replaces one piece of text at a time, and runs the
tests that should notice. The exit status is 1 if a fault survives. The names of faults
restrict the check to these: ``python tests/mutation_check.py sign n_dof``.
"""

# ruff: noqa: T201  a script whose result is a table

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ALL_PASSED, SOME_FAILED = 0, 1


@dataclass(frozen=True, slots=True)
class Fault:
    """One planted fault.

    Attributes
    ----------
    name : str
    file : str
        In the package.
    old, new : str
        `old` must occur exactly once.
    tests : tuple of str
        Files or folders of the default suite, relative to ``tests``.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


FAULTS = (
    Fault(
        "sign",
        "conservation.py",
        "velocities = after.velocities + rotations.turning(missing, index)",
        "velocities = after.velocities - rotations.turning(missing, index)",
        ("test_conservation.py",),
    ),
    Fault(
        "factor 2",
        "kinetics.py",
        "return 0.5 * EV_PER_AMU_A2_FS2",
        "return EV_PER_AMU_A2_FS2",
        ("test_kinetics.py", "thermostats/test_thermostats.py"),
    ),
    Fault(
        "n_dof",
        "kinetics.py",
        "count = count - conserves * bodies.n_conserved",
        "count = count - 0 * conserves",
        ("test_kinetics.py", "thermostats/test_thermostats.py"),
    ),
    Fault(
        "wrapped displacement",
        "training/pairs.py",
        "shortest, _ = find_mic(moved.reshape(-1, 3), frames.cell, frames.pbc)",
        "shortest = moved",
        ("training/test_pairs.py",),
    ),
    Fault(
        "stale neighbors",
        "network/neighborhood.py",
        "    return Neighborhood(find_edges(state, reach, network.neighbor_backend), "
        "around)",
        "    kept = vars(network).setdefault('kept', {})\n"
        "    if state.n_atoms not in kept:\n"
        "        kept[state.n_atoms] = find_edges(state, reach)\n"
        "    return Neighborhood(kept[state.n_atoms], around)",
        ("test_stride.py", "network/test_forecaster.py"),
    ),
    Fault(
        "swapped sender and receiver",
        "neighbors.py",
        "    receivers, senders, vectors = neighbors.compute(",
        "    senders, receivers, vectors = neighbors.compute(",
        ("test_neighbors.py",),
    ),
    Fault(
        "missing mass",
        "conservation.py",
        "weighted = sum_systems(state, state.masses[:, None] * values)",
        "weighted = sum_systems(state, state.masses.mean() * values)",
        ("test_conservation.py",),
    ),
    Fault(
        "seed reuse",
        "streams.py",
        "rng.standard_normal((size, 3))",
        "np.random.default_rng(1).standard_normal((size, 3))",
        ("thermostats/test_thermostats.py", "dynamics/test_driver.py"),
    ),
    Fault(
        "off-by-one frame",
        "training/pairs.py",
        "later = frames.positions[starts + self.lag]",
        "later = frames.positions[starts + self.lag - 1]",
        ("training/test_pairs.py",),
    ),
    Fault(
        "unit slip",
        "state.py",
        "return np.asarray(momenta / masses[:, None] * FS)",
        "return np.asarray(momenta / masses[:, None] / FS)",
        ("test_state.py",),
    ),
)


def main(names: list[str]) -> int:
    """Print the table; return the exit status."""
    known = [fault.name for fault in FAULTS]
    unknown = sorted(set(names) - set(known))
    if unknown:
        print(f"unknown fault {unknown[0]!r}; known: {', '.join(known)}")
        return 2
    chosen = [fault for fault in FAULTS if not names or fault.name in names]
    with tempfile.TemporaryDirectory() as folder:
        copy = copied_project(Path(folder))
        check_unchanged_copy(copy, chosen)
        print(f"{'fault':28}{'file':24}{'verdict':10}{'time':>6}  caught by")
        survivors = [fault for fault in chosen if not is_killed(copy, fault)]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} faults killed")
    return 1 if survivors else 0


def copied_project(folder: Path) -> Path:
    """Return a copy of package, tests and settings in `folder`."""
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in ("trajcast_ase", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def check_unchanged_copy(copy: Path, faults: list[Fault]) -> None:
    """Exit unless every pattern matches once and the tests of the copy pass."""
    for fault in faults:
        found = (copy / "trajcast_ase" / fault.file).read_text(encoding="utf-8")
        if found.count(fault.old) != 1:
            sys.exit(
                f"fault {fault.name!r}: its text occurs {found.count(fault.old)} times "
                f"in {fault.file}, must be once; adapt it to the present code"
            )
    status, output = run_tests(copy, sorted({t for f in faults for t in f.tests}))
    if status != ALL_PASSED:
        sys.exit(f"the tests do not pass without a fault (exit {status}):\n{output}")


def is_killed(copy: Path, fault: Fault) -> bool:
    """Return whether the tests notice `fault`; print its row."""
    path = copy / "trajcast_ase" / fault.file
    original = path.read_text(encoding="utf-8")
    path.write_text(original.replace(fault.old, fault.new), encoding="utf-8")
    start = time.perf_counter()
    try:
        status, output = run_tests(copy, list(fault.tests))
    finally:
        path.write_text(original, encoding="utf-8")
    seconds = time.perf_counter() - start
    if status not in (ALL_PASSED, SOME_FAILED):
        sys.exit(f"fault {fault.name!r}: pytest ended with {status}:\n{output}")
    failed = re.search(r"^FAILED tests/(\S+)", output, flags=re.MULTILINE)
    verdict = "killed" if status == SOME_FAILED else "SURVIVED"
    catcher = failed.group(1) if failed else ""
    row = f"{fault.name:28}{fault.file:24}{verdict:10}{seconds:5.0f}s  {catcher}"
    print(row, flush=True)
    return status == SOME_FAILED


def run_tests(copy: Path, tests: list[str]) -> tuple[int, str]:
    """Return pytest's exit status and output for the package in `copy`."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    # Bytecode of the original could be taken for that of a file changed within a
    # second of it, so none is written.
    settings = {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*command, *(f"tests/{test}" for test in tests)],
        cwd=copy,
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

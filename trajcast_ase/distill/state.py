"""The state file: what was asked, what is done, and of which files it consists."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trajcast_ase.files import write_atomically
from trajcast_ase.strict import members, number, parse_json, shortened, text

STATE_NAME = "distill.json"
FORMAT = "trajcast-distill-1"
FOLDERS = {
    "reference": "reference",
    "choice": "screening",
    "training": "training",
    "bath": "bath",
    "report": "runs",
}
"""Stages in their order, and their folders."""
STAGES = tuple(FOLDERS)
SAVE_EVERY_S = 15.0
LONGEST_S = 1e10


class StateError(ValueError):
    """A state file or a file of a stage that is not as it was written."""


class StateFile:
    """Finished stages, plans of unfinished ones and time spent, on disk at each change.

    Parameters
    ----------
    folder : Path
    identity : dict
        What was asked; a file of another request is refused.
    redo : str, optional
        Stage that is taken out with all after it and their folders.

    Raises
    ------
    StateError
        The file is damaged or of another request, a file of a kept stage is missing
        or changed, or there is no stage `redo`; nothing has been taken out then.
    FileExistsError
        There is no such file, but something else.
    """

    def __init__(
        self, folder: Path, identity: Mapping[str, Any], redo: str | None = None
    ) -> None:
        if redo is not None and redo not in STAGES:
            raise StateError(
                f"--redo {redo}: there is no such stage; choose one of "
                f"{', '.join(STAGES)}"
            )
        self.folder = folder
        self.path = folder / STATE_NAME
        self._identity = dict(identity)
        self.seconds: dict[str, float] = {}
        self.plans: dict[str, dict[str, Any]] = {}
        self.stages: dict[str, dict[str, Any]] = {}
        self._clock: tuple[str, float] | None = None
        self._saved = time.monotonic()
        if not self.path.exists():
            self._check_fresh()
            return
        self._read()
        dropped = () if redo is None else STAGES[STAGES.index(redo) :]
        for stage in self.stages:
            if stage not in dropped:
                self._check_files(stage)
        if dropped:
            self._drop(dropped)

    def _check_fresh(self) -> None:
        """Raise FileExistsError where files of the user's may be in the way."""
        ours = {f"{STATE_NAME}.part", f".{STATE_NAME}.lock"}
        others = sorted({path.name for path in self.folder.iterdir()} - ours)
        if others:
            raise FileExistsError(
                f"{self.folder} holds {others[0]} and no {STATE_NAME}; choose a new or "
                "an empty folder as --out"
            )

    def _read(self) -> None:
        try:
            found = members(parse_json(self.path.read_bytes()), "the file", dict)
            self._take_over(found)
        except ValueError as error:
            if isinstance(error, StateError):
                raise
            raise StateError(
                f"{self.path} is no state of distill ({error}); restore it, or choose "
                "another --out"
            ) from error

    def _take_over(self, found: dict[str, Any]) -> None:
        keys = {"format", "identity", "seconds", "plans", "stages"}
        if found.keys() != keys or found["format"] != FORMAT:
            raise ValueError(f"it lacks a key, has another, or is not of {FORMAT}")
        identity = members(found["identity"], "identity", dict)
        for name in ("seconds", "plans", "stages"):
            for stage in members(found[name], name, dict):
                if stage not in STAGES:
                    raise ValueError(f"{name} names the stage {shortened(stage)}")
        for stage, value in found["seconds"].items():
            self.seconds[stage] = number(value, f"seconds.{stage}", 0, LONGEST_S)
        for stage, plan in found["plans"].items():
            self.plans[stage] = members(plan, f"plans.{stage}", dict)
        for stage, entry in found["stages"].items():
            if members(entry, stage, dict).keys() != {"result", "line", "files"}:
                raise ValueError(f"stages.{stage} lacks a key or has another")
            members(entry["result"], f"stages.{stage}.result", dict)
            text(entry["line"], f"stages.{stage}.line")
            for file, digest in members(entry["files"], "files", dict).items():
                text(digest, f"the hash of {shortened(file)}")
            self.stages[stage] = entry
        self._check_identity(identity)

    def _check_identity(self, found: dict[str, Any]) -> None:
        plain = json.loads(json.dumps(self._identity))
        if not self.plans and not self.stages and plain != found:
            self._drop(STAGES[:1])  # nothing is kept but frames of another request
            return
        for key in sorted(plain.keys() | found.keys()):
            if plain.get(key) != found.get(key):
                raise StateError(
                    f"{self.path} was begun with {key} = {shortened(found.get(key))}, "
                    f"now {shortened(plain.get(key))} is asked for; give the same "
                    "settings to go on, or choose another --out"
                )

    def _check_files(self, stage: str) -> None:
        for name, digest in self.stages[stage]["files"].items():
            path = self.folder / name
            what = "is missing" if not path.exists() else "was changed"
            if not path.exists() or file_hash(path) != digest:
                raise StateError(
                    f"{path} {what} since the stage {stage!r} wrote it; restore it, or "
                    f"make this stage and those after it again with --redo {stage}"
                )

    def _drop(self, stages: Sequence[str]) -> None:
        """Take stages out, with their folders."""
        for stage in stages:
            for kept in (self.seconds, self.plans, self.stages):
                kept.pop(stage, None)
            shutil.rmtree(self.folder / FOLDERS[stage], ignore_errors=True)
        self.save()

    def begin(self, stage: str) -> None:
        """Count time for a stage from now on."""
        self._clock = (stage, time.monotonic())

    def tick(self) -> None:
        """Keep the time spent, at most every 15 s."""
        if time.monotonic() - self._saved > SAVE_EVERY_S:
            self.save()

    def spent(self) -> float:
        """Return the time spent on all stages so far, s."""
        self._count()
        return sum(self.seconds.values())

    def spent_on(self, stage: str) -> float:
        """Return the time spent on one stage so far, s."""
        self._count()
        return self.seconds.get(stage, 0.0)

    def keep_plan(self, stage: str, plan: Mapping[str, Any]) -> None:
        """Keep what a stage has decided to do, or has done in part."""
        self.plans[stage] = dict(plan)
        self.save()

    def finish(
        self, stage: str, result: Mapping[str, Any], line: str, files: Iterable[Path]
    ) -> None:
        """Keep the result of a stage with the hashes of its files."""
        self._count()
        self.stages[stage] = {
            "result": json.loads(json.dumps(dict(result))),
            "line": line,
            "files": {
                str(path.relative_to(self.folder)): file_hash(path) for path in files
            },
        }
        self.plans.pop(stage, None)
        self.save()

    def save(self) -> None:
        """Write the file atomically."""
        self._count()
        content = {
            "format": FORMAT,
            "identity": self._identity,
            "seconds": self.seconds,
            "plans": self.plans,
            "stages": self.stages,
        }
        data = json.dumps(content, indent=1, allow_nan=False) + "\n"
        write_atomically(self.path, data.encode())
        self._saved = time.monotonic()

    def _count(self) -> None:
        if self._clock is not None:
            stage, since = self._clock
            now = time.monotonic()
            self.seconds[stage] = self.seconds.get(stage, 0.0) + now - since
            self._clock = (stage, now)


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""A table that outlives its process: what fails is a row, and the others go on.

Work is done in units. A unit that fails leaves a row that says why. One that takes the
card with it (an illegal address ends all work of its process there) leaves its row,
too, and the process ends with the status :data:`LOST`: the same command with
``--go-on`` does what is left.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from output import table, write_csv

Row = dict[str, Any]
Unit = tuple[str, ...]

LOST = 75
"""Exit status of a process that cannot use its card any more."""


def reason(error: BaseException) -> str:
    """Return the first line of an error, as tables say it; all of it is printed."""
    traceback.print_exception(error)
    first_line = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first_line}"


class Journal:
    """Rows of a table, written after every unit of work.

    Parameters
    ----------
    path : Path
        Without suffix: ``.csv``, ``.md`` and ``.json`` are written.
    columns : tuple of str
    device : str
    head, tail : str
        Around the table in the ``.md``.
    go_on : bool
        Whether units that the files hold are left out.
    """

    def __init__(
        self,
        path: Path,
        columns: tuple[str, ...],
        device: str,
        *,
        head: str = "",
        tail: str = "",
        go_on: bool = False,
    ) -> None:
        self.rows: list[Row] = []
        self._done: set[Unit] = set()
        self._path, self._columns, self._device = path, columns, device
        self._around = head, tail
        path.parent.mkdir(parents=True, exist_ok=True)
        if go_on and self._file(".json").exists():
            kept = json.loads(self._file(".json").read_text(encoding="utf-8"))
            self.rows = kept["rows"]
            self._done = {tuple(unit) for unit in kept["units"]}

    def measure(
        self, unit: Unit, common: Row, work: Callable[[], Iterable[Row]]
    ) -> None:
        """Write down the rows of a unit, each with what is `common` to them."""
        if unit in self._done:
            return
        found: list[Row] = []
        try:
            for row in work():
                found.append(common | row)  # noqa: PERF401  those before a failure stay
        except Exception as error:  # noqa: BLE001  whatever a driver or compiler raises
            found.append(common | {"note": reason(error)})
        print(table(found, self._columns), flush=True)
        self.rows += found
        self._done.add(unit)
        self._write()
        self._leave_a_lost_card()

    def _file(self, suffix: str) -> Path:
        return self._path.with_name(self._path.name + suffix)

    def _write(self) -> None:
        write_csv(self.rows, self._columns, self._file(".csv"))
        head, tail = self._around
        text = "\n\n".join(
            part for part in (head, table(self.rows, self._columns), tail) if part
        )
        self._file(".md").write_text(text + "\n", encoding="utf-8")
        kept = {"units": sorted(self._done), "rows": self.rows}
        self._file(".json").write_text(json.dumps(kept, default=float) + "\n")

    def _leave_a_lost_card(self) -> None:
        """End the process where its card answers no more."""
        if not self._device.startswith("cuda"):
            return
        try:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()  # of graphs, for those that come
        except Exception as error:  # noqa: BLE001  whatever a driver raises
            print(f"the card is lost ({reason(error)}); go on with --go-on", flush=True)
            sys.stderr.flush()
            os._exit(LOST)  # what is done at an orderly end would ask the card

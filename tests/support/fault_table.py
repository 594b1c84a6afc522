"""The table of faults: what was counted after each, and the promise it proves."""

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from auditor import Audit
from ledger import Hook

HEAD = (
    "fault",
    "acked",
    "stored",
    "lost",
    "twice",
    "in gaps",
    "recovery, s",
    "hook, µs/step",
    "longest call, ms (CPU / clock)",
    "promise",
)
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"


@dataclass
class Row:
    """One fault. Times in seconds; `recovery` is from the end of the fault until everything was stored."""

    fault: str
    promise: str
    acked: int = 0
    stored: int = 0
    lost: int = 0
    duplicated: int = 0
    gaps: int = 0
    recovery: float | None = None
    hook: Hook | None = None
    note: str = ""
    breaches: list[str] = field(default_factory=list)

    def count(self, found: Audit) -> None:
        """Take over what was found."""
        self.acked, self.stored, self.lost = found.acked, found.stored, found.lost
        self.duplicated, self.gaps, self.breaches = found.duplicated, found.gaps, found.breaches

    def check(self) -> None:
        """Raise AssertionError where an invariant does not hold."""
        assert not self.breaches, self.breaches
        assert self.duplicated == 0, self
        assert self.lost == 0, self

    def pack(self) -> dict[str, Any]:
        """As plain values, which travel between processes."""
        return asdict(self) | {"hook": tuple(self.hook) if self.hook else None}


def unpack(values: dict[str, Any]) -> Row:
    """A row from plain values."""
    return Row(**(values | {"hook": Hook(*values["hook"]) if values["hook"] else None}))


def table(rows: Sequence[Row]) -> str:
    """Every row, as a table in Markdown."""
    lines = [HEAD, ["---", *["---:"] * 8, "---"], *map(cells, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cells(row: Row) -> list[str]:
    """One row's texts."""
    hook = row.hook if row.hook is not None and not math.isnan(row.hook.median) else None
    return [
        row.fault,
        f"{row.acked:,}",
        f"{row.stored:,}",
        f"{row.lost:,}",
        f"{row.duplicated:,}",
        f"{row.gaps:,}",
        "-" if row.recovery is None else f"{row.recovery:.2f}",
        f"{hook.median * 1e6:.0f}" if hook else "-",
        f"{hook.call * 1e3:.1f} / {hook.wait * 1e3:.1f}" if hook else "-",
        row.promise + (f"; {row.note}" if row.note else ""),
    ]


def write(path: Path, text: str) -> None:
    """Put the text between the markers of a file. Raises ValueError where it has none."""
    before = path.read_text()
    after, count = re.subn(f"(?s){BEGIN}.*{END}", lambda _: f"{BEGIN}\n{text}\n{END}", before)
    if count != 1:
        raise ValueError(f"expected {BEGIN} and {END} once in {path}, found them {count} times")
    path.write_text(after)

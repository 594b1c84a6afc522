"""What was found in a checkpoint, as it crosses from the child to the parent and as `--json` prints it."""

from typing import Literal

import msgspec

Group = Literal["statistics", "weights", "ema", "optimizer", "other"]
JUDGED: tuple[Group, ...] = ("statistics", "weights", "ema", "optimizer")  # the others' numbers are what was measured
HEALTHY, STATISTICS, SERIOUS, REFUSED, CRASHED = range(5)  # exit codes


class Issue(msgspec.Struct):
    """One corrupt tensor: how many of its `total` elements are what, and the index of the first."""

    key: str
    group: Group
    total: int
    nan: int = 0
    posinf: int = 0
    neginf: int = 0
    negative: int = 0
    first: list[int] = []
    file: str = ""

    @property
    def count(self) -> int:
        """The corrupt elements."""
        return self.nan + self.posinf + self.neginf + self.negative


class Sum(msgspec.Struct):
    """A group's tensors together."""

    tensors: int = 0
    elements: int = 0
    nan: int = 0
    inf: int = 0
    negative: int = 0


class Report(msgspec.Struct):
    """One checkpoint, of one file or several. `kept` names the types that were not looked into, `unjudged` the tensors
    whose numbers could not be read (quantised, meta). `fixed` is what was written, `repaired` the keys changed."""

    groups: dict[Group, Sum] = {}
    issues: list[Issue] = []
    kept: list[str] = []
    unjudged: list[str] = []
    fixed: str | None = None
    repaired: list[str] = []

    @property
    def serious(self) -> list[Issue]:
        """The issues that no repair of statistics mends."""
        return [issue for issue in self.issues if issue.group != "statistics"]

    @property
    def exit_code(self) -> int:
        """0 healthy (or healthy now), 1 statistics corrupted, 2 weights or optimizer corrupted."""
        if self.serious:
            return SERIOUS
        return STATISTICS if self.issues and self.fixed is None else HEALTHY

    def add(self, other: "Report") -> None:
        """Another file of the same checkpoint."""
        for group, one in other.groups.items():
            whole = self.groups.setdefault(group, Sum())
            for name in Sum.__struct_fields__:
                setattr(whole, name, getattr(whole, name) + getattr(one, name))
        self.issues += other.issues
        self.kept = sorted({*self.kept, *other.kept})
        self.unjudged += other.unjudged
        self.repaired += other.repaired


class Progress(msgspec.Struct, tag="progress"):
    """Bytes looked at so far."""

    done: int
    total: int


class Found(msgspec.Struct, tag="found"):
    """The end of a child that could read."""

    report: Report


class Refused(msgspec.Struct, tag="refused"):
    """The end of a child that would not."""

    reason: str


Message = Progress | Found | Refused


def plain(text: str) -> str:
    """The text as UTF-8 can hold it: lone surrogates are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


class RefusedError(Exception):
    """The file is not read; the message says why, in one line without its name."""

"""What the terminal shows: aligned tables, steps, times, and names that can do no harm."""

import json
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

# Categories that move the cursor, hide text or turn it around: control, format (right-to-left marks), surrogates,
# private use, unassigned, line and paragraph separators.
UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
WIDEST = 60  # characters of one cell, so that a name of 10 kB spoils no table


def safe(value: object) -> str:
    """The value as text in which every character that could drive a terminal is written as an escape."""
    return "".join(_escape(char) if unicodedata.category(char) in UNSAFE else char for char in str(value))


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "backslashreplace").decode("ascii")


def cell(value: object, width: int = WIDEST) -> str:
    """One cell: "-" for nothing, thousands separated, floats short, long names cut in the middle."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = safe(value)
    return text if len(text) <= width else f"{text[: width // 2 - 1]}…{text[-(width // 2) :]}"


def count(number: int, noun: str) -> str:
    """So many of something: 1 record, 2,000 records."""
    return f"{number:,} {noun}{'s' if number != 1 else ''}"


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns aligned to their widest cell; numbers to the right. The last column is not cut."""
    body = list(rows)
    last = len(heads) - 1
    cells = [[cell(value, 10_000 if place == last else WIDEST) for place, value in enumerate(row)] for row in body]
    widths = [max(len(head), *(len(row[place]) for row in cells), 0) for place, head in enumerate(heads)]
    right = [bool(body) and all(_numeric(row[place]) for row in body) for place in range(len(heads))]
    lines = [list(heads), *cells]
    return "\n".join(_line(line, widths, right) for line in lines)


def _numeric(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    parts = [
        text.rjust(width) if flush else text.ljust(width)
        for text, width, flush in zip(cells, widths, right, strict=True)
    ]
    return "  ".join(parts).rstrip()


def moment(seconds: float) -> str:
    """Unix seconds as date and time, to the second, as UTC; the bare number where they are none."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}Z"
    except (OverflowError, OSError, ValueError):
        return cell(seconds)


def clock(time: str | None) -> str:
    """The date and time of an ISO-8601 string, to the second, as UTC."""
    return "-" if not time else safe(time).partition(".")[0].rstrip("Z").replace("T", " ") + "Z"


def show_json(value: Any) -> None:
    """Print one JSON document on one line (escapes keep it plain ASCII)."""
    print(json.dumps(value, ensure_ascii=True, separators=(",", ":")), flush=True)

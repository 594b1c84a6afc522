"""What a stranger's rows must be before they are taken in: a file that is imported is as hostile as a socket.

The types of columns have been checked already. Here every row must belong to the one run, say what it may say, and fit
its neighbours: blobs have the sizes that the numbers beside them promise, events decode as what they claim to be.
Each check raises ValueError, or a decoding error that is one, with what was expected and what came.
"""

import re
from collections.abc import Callable
from typing import Any, get_args

import msgspec
import numpy as np
import zstandard

from trainvitals import wire
from trainvitals_server.alerts import Alert
from trainvitals_server.ingest.declaring import MAX_COLUMNS, MAX_SERIES
from trainvitals_server.ingest.freeform import check_free
from trainvitals_server.ingest.intake import MAX_STEP
from trainvitals_server.runs import transitions
from trainvitals_server.runs.states import State
from trainvitals_server.store import blocks, checksum, codec, limits, shelves
from trainvitals_server.store.journal import MAX_KEPT_BYTES
from trainvitals_server.store.packing import unpack

Row = dict[str, Any]
MAX_NAME = 10_000  # characters of a name or a reason
IDENTITY = re.compile(wire.ID_PATTERN)
OVER = ("verified", "refused", "failed", "expired", "unknown")

_allow = msgspec.msgpack.Decoder(list[str])
_versions = msgspec.msgpack.Decoder(dict[str, str])
_columns = msgspec.msgpack.Decoder(list[wire.Series | None])
_alert = msgspec.msgpack.Decoder(Alert)


class Inspector:
    """The checks of one file, which remember what parents promised to their children. Tables come parents first."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._series: set[int] = set()
        self._widths: dict[int, int] = {}  # layout -> columns
        self._blocks: dict[int, tuple[int, int]] = {}  # block -> layout, columns
        self._spans: dict[tuple[int, int], int] = {}  # layout, first step -> frames
        self._ends: dict[tuple[str, int], int] = {}  # table, layout -> last step so far
        self._checks: dict[str, Callable[[Row], Row | None]] = {
            "runs": self._run_row,
            "producers": self._producer,
            "series": self._one_series,
            "layouts": self._layout,
            "commands": self._command,
            "alerts": self._one_alert,
            "events": self._event,
            "quarantine": self._quarantined,
            "frames": self._frames,
            "shelves": self._shelf,
            "spans": self._span,
            "blocks": self._block,
            "levels": self._level,
            "fresh_buckets": self._fresh_buckets,
            "buckets": self._buckets,
            "chunks": self._chunk,
        }

    def check(self, table: str, row: Row) -> Row | None:
        """The row as it is to be entered; None for a leftover that does not count."""
        if "run" in row:
            _expect(row["run"] == self._run, f"run {self._run!r}", row["run"])
        for name, value in row.items():
            if isinstance(value, str):
                _expect(len(value) <= MAX_NAME, f"at most {MAX_NAME} characters in {name}", len(value))
        return self._checks[table](row)

    def _run_row(self, row: Row) -> Row:
        _expect(IDENTITY.fullmatch(row["id"]) is not None and row["id"] == self._run, "a run id", row["id"])
        _expect(row["state"] in get_args(State), "a state of a run", row["state"])
        _times(row, "created", "last_seen", "ended")
        check_free(unpack(row["config"]), "config")
        _expect(isinstance(unpack(row["config"]), dict), "a map as config", "another thing")
        _versions.decode(row["versions"])
        _allow.decode(row["allow"])
        return row

    def _producer(self, row: Row) -> Row:
        _expect(IDENTITY.fullmatch(row["producer"]) is not None, "a producer id", row["producer"])
        for name in ("rank", "world_size", "pid"):
            _expect(0 <= row[name] < 1 << 31, f"a {name} from 0 to 2**31 - 1", row[name])
        _times(row, "started", "first_time", "last_time")
        _expect(-1 <= row["committed"] < MAX_STEP, "a watermark", row["committed"])
        ends = (row["first_step"], row["last_step"])
        _expect(ends == (None, None) or _range(*ends), "steps from the first to the last", ends)
        _expect(0 <= row["frames"] < MAX_STEP and 0 <= row["dropped"] < MAX_STEP, "counts", row["frames"])
        _allow.decode(row["allow"])
        return row

    def _one_series(self, row: Row) -> Row:
        _expect(-(1 << 31) <= row["place"] < 1 << 31, "a place of 32 bits", row["place"])
        _expect(len(self._series) < MAX_SERIES, f"at most {MAX_SERIES} series", "more")
        self._series.add(row["id"])
        return row

    def _layout(self, row: Row) -> Row:
        total, columns = row["total"], row["columns"]
        _expect(1 <= total <= MAX_COLUMNS, f"1 to {MAX_COLUMNS} columns", total)
        _expect(0 <= row["layout"] < 1 << 32, "a layout's number", row["layout"])
        _expect(len(columns) == 8 * total, f"{8 * total} bytes of columns", len(columns))
        _expect(set(np.frombuffer(columns, "<i8").tolist()) <= self._series | {-1}, "the file's own series", "others")
        declared = len(_columns.decode(row["declared"]))
        _expect(declared == total, f"{total} declared columns", declared)
        self._widths[row["id"]] = total
        return row

    def _command(self, row: Row) -> Row:
        _expect(row["action"] in get_args(wire.Action), "an action", row["action"])
        _expect(row["state"] in get_args(wire.CommandState), "a state of a command", row["state"])
        _times(row, "requested", "delivered", "applied", "verified", "expires")
        for name in ("layers", "result"):
            check_free(unpack(row[name]), name)
        if row["state"] not in OVER:  # nobody here can carry it out
            row |= {"state": "unknown", "reason": "it was under way where this run was imported from"}
        return row

    def _one_alert(self, row: Row) -> Row:
        alert = _alert.decode(row["body"])
        said = (alert.run, alert.rank, alert.rule, alert.layer or "", alert.status)
        _expect(said == tuple(row[name] for name in ("run", "rank", "rule", "layer", "status")), "one alert", said)
        for moment in (alert.opened, alert.updated):
            transitions.check_time(moment)
        return row

    def _event(self, row: Row) -> Row:
        record = wire.decode_record(row["record"])
        _expect(not isinstance(record, wire.Layout | wire.Frame), "an event", type(record).__name__)
        tag = str(record.__struct_config__.tag)
        _expect(row["type"] == tag, f"type {tag}", row["type"])
        _expect(
            0 <= row["step"] < MAX_STEP and -1 <= row["seq"] < MAX_STEP, "a step and a sequence number", row["step"]
        )
        _times(row, "time")
        if isinstance(record, wire.Gap):
            transitions.check_time(record.since)
            transitions.check_time(record.until)
        elif isinstance(record, wire.Event):
            _expect(record.step == row["step"], f"step {record.step}", row["step"])
            transitions.check_time(record.time)
        if isinstance(record, wire.CommandUpdate):
            check_free(record.result, "result")
        return row

    def _quarantined(self, row: Row) -> Row:
        _times(row, "time")
        _expect(-1 <= row["seq"] < MAX_STEP, "a sequence number", row["seq"])
        _expect(len(row["record"]) <= MAX_KEPT_BYTES, f"at most {MAX_KEPT_BYTES} bytes of a record", len(row["record"]))
        return row

    def _frames(self, row: Row) -> Row:
        width, n = self._width(row["layout"]), row["n"]
        limits.check_frames(n, width)
        _stretch(row, _plain(row["steps"], 8 * n), _plain(row["times"], 8 * n))
        self._follow("frames", row)
        _plain(row["values"], 4 * n * width)
        _plain(row["present"], n * -(-width // 8), optional=True)
        return _sealed(row, "steps", "times", "values", "present")

    def _shelf(self, row: Row) -> Row:
        self._width(row["layout"])
        width = row["width"]
        _expect(width is None or (0 < width < MAX_STEP and width & (width - 1) == 0), "a power of two", width)
        for name in ("bucketed", "waiting", "packed"):
            _expect(-1 <= row[name] < MAX_STEP, f"a step as {name}", row[name])
        return row

    def _span(self, row: Row) -> Row:
        n = row["n"]
        limits.check_frames(n, self._width(row["layout"]))
        _stretch(row, _unpacked(row["steps"], 8 * n, shuffled=8), _unpacked(row["times"], 8 * n, shuffled=8))
        self._follow("spans", row)
        self._spans[row["layout"], row["first_step"]] = n
        return row

    def _block(self, row: Row) -> Row:
        width, columns = self._width(row["layout"]), np.frombuffer(row["columns"], "<i4")
        fits = 0 < len(columns) <= min(width, blocks.MOST) and bool(((columns >= 0) & (columns < width)).all())
        _expect(fits and len(set(columns.tolist())) == len(columns), f"columns of {width}", columns[:8].tolist())
        self._blocks[row["id"]] = row["layout"], len(columns)
        return row

    def _level(self, row: Row) -> Row:
        self._width(row["layout"])
        _expect(0 <= row["level"] < 64 and -1 <= row["reach"] < MAX_STEP, "a level and its reach", row["level"])
        return row

    def _fresh_buckets(self, row: Row) -> Row:
        width, k = self._width(row["layout"]), len(row["shape"]) // 32
        _expect(0 < k <= shelves.PER_ROW and -1 <= row["start"] < MAX_STEP, "some buckets", k)
        _plain(row["shape"], 4 * 8 * k)
        _plain(row["edges"], 5 * 4 * k * width)
        _unpacked(row["odd"], 6 * 4 * k * width, optional=True)
        return _sealed(row, "shape", "edges", "odd")

    def _buckets(self, row: Row) -> Row:
        _, columns = self._block_of(row["block"])
        k = _size(row["shape"]) // 32
        placed = 0 <= row["level"] < 64 and -1 <= row["start"] < MAX_STEP
        _expect(0 < k <= shelves.PER_ROW and placed, "some buckets", k)
        _unpacked(row["shape"], 4 * 8 * k)
        _unpacked(row["odd"], 6 * 4 * k * columns, optional=True)
        for name in ("max", "last", "min", "first", "mean"):
            _unpacked(row[name], 4 * k * columns)
        return row

    def _chunk(self, row: Row) -> Row | None:
        layout, columns = self._block_of(row["block"])
        n = self._spans.get((layout, row["first_step"]))
        if n is None:
            return None
        _unpacked(row["values"], 4 * n * columns)
        _unpacked(row["present"], columns * -(-n // 8), optional=True)
        return row

    def _follow(self, table: str, row: Row) -> None:
        """Rows of a layout come in the order of their steps: those that overlapped would be read again and again."""
        end = self._ends.get((table, row["layout"]), -1)
        _expect(row["first_step"] > end, f"a first step after {end}, the last of the row before", row["first_step"])
        self._ends[table, row["layout"]] = row["last_step"]

    def _width(self, layout: int) -> int:
        _expect(layout in self._widths, "a layout of this file", layout)
        return self._widths[layout]

    def _block_of(self, block: int) -> tuple[int, int]:
        _expect(block in self._blocks, "a block of this file", block)
        return self._blocks[block]


def _expect(holds: bool, expected: str, came: object) -> None:
    if not holds:
        raise ValueError(f"expected {expected}, got {str(came)[:100]!r}")


def _range(low: int | None, high: int | None) -> bool:
    return low is not None and high is not None and 0 <= low <= high < MAX_STEP


def _times(row: Row, *names: str) -> None:
    for name in names:
        if row[name] is not None:
            transitions.check_time(row[name])


def _stretch(row: Row, steps: bytes, times: bytes) -> None:
    """Steps that increase from the first to the last, and as many times."""
    told, moments = np.frombuffer(steps, "<i8"), np.frombuffer(times, "<f8")
    ends = (row["first_step"], row["last_step"])
    _expect(_range(*ends) and (int(told[0]), int(told[-1])) == ends, "the first and the last step", ends)
    _expect(bool((np.diff(told) > 0).all()), "steps that increase", "others")
    _expect(bool(((moments >= 0) & (moments < 2e11)).all()), "times in Unix seconds", "others")


def _sealed(row: Row, *names: str) -> Row:
    """The row with the checksum of these blobs, which must be the one it has; older versions made none."""
    blobs = [row[name] for name in names]
    checksum.verify(row.get("checksum"), *blobs)
    return row | {"checksum": checksum.make(*blobs)}


def _plain(blob: bytes | None, size: int, *, optional: bool = False) -> bytes:
    if blob is None and optional:
        return b""
    _expect(blob is not None and len(blob) == size, f"{size} bytes", None if blob is None else len(blob))
    return blob or b""


def _size(blob: bytes) -> int:
    """The bytes that come out, as its head says; what lies about it is refused when it is unpacked."""
    try:
        return codec.size(blob)
    except zstandard.ZstdError as error:
        raise ValueError(f"expected a zstd frame, got {error}") from error


def _unpacked(blob: bytes | None, size: int, *, shuffled: int = 1, optional: bool = False) -> bytes:
    """What a packed blob holds, which must be `size` bytes; a bomb is refused before it goes off. `shuffled`: bytes of
    a number, the n-th of which stand together."""
    if blob is None and optional:
        return b""
    try:
        data = codec.expand(blob or b"", size)
    except zstandard.ZstdError as error:
        raise ValueError(f"expected a whole zstd frame, got {error}") from error
    return np.frombuffer(data, np.uint8).reshape(shuffled, -1).T.tobytes() if shuffled > 1 else data

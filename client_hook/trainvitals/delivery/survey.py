"""Goes through a spool that was left behind: how far it reaches, what its process said last, what it did not end."""

from contextlib import suppress
from pathlib import Path

import msgspec

from trainvitals import wire
from trainvitals.delivery.segments import HEAD, Damage, count_heads, scan

ORPHANED = "orphaned"  # the notice's code, of a process that ended without a word
SUPERSEDED = "superseded"  # of a producer that another one of the same process follows


class Survey:
    """What is in a spool, segment by segment."""

    def __init__(self) -> None:
        self.next = 0
        self.step = 0
        self.ended = False  # its process said how it ended, or a claimant of an older version did
        self.commands: dict[str, str] = {}  # id -> newest state
        self.lost = 0  # records that gaps count, and that are missing
        self.torn = 0  # bytes at the very end that are no record ...
        self.torn_records = 0  # ... and how many they were, as far as they tell

    def note(self, path: Path, start: int) -> None:
        """Go through the next segment, which begins with record `start`."""
        place, self.torn, self.torn_records = 0, 0, 0
        newest = b""
        for row in scan(path, start):
            if isinstance(row, Damage):
                self.torn, self.torn_records = int(row), count_heads(_piece(path, place, row), self.next)
                place += row
                continue
            seq, payload = row
            place += HEAD.size + len(payload)
            self.torn = self.torn_records = 0
            self.lost += max(seq - self.next, 0)
            last = wire.spans(seq, payload)
            self.next = max(self.next, (seq if last is None else last) + 1)
            if wire.tag(payload) == "frame":
                newest = payload
            else:
                self._event(payload)
        if newest:
            self._event(newest)

    def _event(self, payload: bytes) -> None:
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            record = wire.decode_record(payload)
            if isinstance(record, wire.Event | wire.Frame):
                self.step = max(self.step, record.step)
            match record:
                case wire.Gap(count=count):
                    self.lost += count
                case wire.CommandUpdate(id=one, state=state):
                    self.commands[one] = state
                case wire.Lifecycle(state=state):
                    self.ended = state in ("finished", "failed")
                case wire.Notice(code=code) if code in (ORPHANED, SUPERSEDED):
                    self.ended = True


def _piece(path: Path, place: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(place)
        return file.read(length)


def journalled(folder: Path) -> list[str]:
    """The ids of the commands that the process took, in order."""
    try:
        lines = (folder / "journal").read_bytes().splitlines()
    except OSError:
        return []
    found: dict[str, None] = {}
    for line in lines:
        with suppress(msgspec.DecodeError):  # the last one may be torn; its command was then not taken
            found[msgspec.json.decode(line, type=_Line).id] = None
    return list(found)


class _Line(msgspec.Struct):
    id: str

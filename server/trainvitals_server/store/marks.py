"""Marks: how far an answer reached, so that the next one need tell only what has changed since.

A mark names the producers that told the run, from which step on each did, and the newest step of every layout that was
read. Frames are only ever added behind a layout's newest step, and a producer that comes or begins earlier changes
nothing before its first step: so what changed begins at one step, and everything before it stands.
"""

import base64
import sqlite3
from collections.abc import Iterable, Sequence

import msgspec

from trainvitals_server.store import frames
from trainvitals_server.store.runs import Segment
from trainvitals_server.store.series import Outline

MAX_ENTRIES = 64  # producers and layouts; of more, every answer is whole


class Mark(msgspec.Struct, array_like=True):
    """How far an answer in buckets of `width` steps reached."""

    width: int
    low: int
    lows: dict[int, int]  # producer -> its first step that counted
    newest: dict[int, int]  # layout -> its newest step


_decoder = msgspec.msgpack.Decoder(Mark)


def make(
    connection: sqlite3.Connection, width: int, low: int, parts: Sequence[Segment], layouts: Iterable[Outline]
) -> Mark:
    """The mark of an answer from step `low` on."""
    told = {one.id: frames.last_step(connection, one.id) for one in layouts}
    newest = {layout: step for layout, step in told.items() if step is not None}
    return Mark(width, low, {part.producer: part.low for part in parts}, newest)


def write(mark: Mark) -> str:
    """A mark as text; "" where there is too much to name."""
    if len(mark.lows) + len(mark.newest) > MAX_ENTRIES:
        return ""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(mark)).decode()


def compare(text: str, now: Mark, high: int) -> int | None:
    """The first step of the first bucket that may have changed since the answer with this mark, behind step `high`
    where none has; None where nothing of that answer can be kept."""
    try:
        old = _decoder.decode(base64.urlsafe_b64decode(text))
    except (ValueError, msgspec.DecodeError):
        return None
    if (old.width, old.low) != (now.width, now.low):
        return None
    changed = changed_from(old, now)
    return high // now.width * now.width if changed is None else min(changed, high) // now.width * now.width


def changed_from(old: Mark, new: Mark) -> int | None:
    """The first step at which anything may have changed; None where nothing has."""
    steps = [step + 1 for layout, step in old.newest.items() if new.newest.get(layout) != step]
    if new.newest.keys() - old.newest.keys():  # a layout that has come may begin wherever its producer did
        steps.append(min(new.lows.values(), default=0))
    for producer in old.lows.keys() | new.lows.keys():
        before, now = old.lows.get(producer), new.lows.get(producer)
        if before != now:
            steps += [one for one in (before, now) if one is not None]
    return min(steps, default=None)

"""Blocks of records for the rules' tests: written down column by column, or cut from one long sequence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from trainvitals import wire
from trainvitals_server.rules import Block, Finding
from trainvitals_server.rules.registry import Rule

Column = tuple[str, str, str]  # layer, kind, statistic
ABSENT = object()


def run(stat: str) -> Column:
    """A column of the whole run."""
    return "", wire.RUN, stat


def norm(layer: str, stat: str = wire.NONFINITE_CHANNELS) -> Column:
    """A column of a layer with running statistics."""
    return layer, wire.NORM, stat


def frames(columns: Mapping[Column, Sequence[object]], first: int = 1, events: Sequence[wire.Event] = ()) -> Block:
    """A block with these values per column, `ABSENT` where there is none; steps count from `first`."""
    count = len(next(iter(columns.values()), ()))
    series = tuple(wire.Series(i, *column, i) for i, column in enumerate(columns))
    present = np.array([[value is not ABSENT for value in values] for values in columns.values()], dtype=bool).T
    values = np.array([[0.0 if v is ABSENT else v for v in values] for values in columns.values()], dtype=np.float32).T
    steps = np.arange(first, first + count, dtype=np.int64)
    shape = (count, len(columns))
    return Block(series, steps, steps.astype(float), values.reshape(shape), present.reshape(shape), tuple(events))


def happen(*events: wire.Event) -> Block:
    """A block of events alone."""
    return frames({}, events=events)


@dataclass(frozen=True)
class Row:
    """One frame: its columns' values, `ABSENT` where there is none."""

    step: int
    columns: tuple[Column, ...]
    values: tuple[object, ...]


Item = Row | wire.Event


def cut(items: Sequence[Item], places: Sequence[int]) -> list[Block]:
    """The sequence cut at these places, and within a piece wherever the layout changes."""
    bounds = [0, *sorted({place for place in places if 0 < place < len(items)}), len(items)]
    pieces = [items[a:b] for a, b in pairwise(bounds)]
    return [block for piece in pieces for block in blocks(piece)]


def blocks(piece: Sequence[Item]) -> list[Block]:
    """One piece as blocks of one layout each."""
    made, rows, events = list[Block](), list[Row](), list[wire.Event]()
    for item in piece:
        if isinstance(item, Row) and rows and rows[-1].columns != item.columns:
            made.append(join(rows, events))
            rows, events = [], []
        if isinstance(item, Row):
            rows.append(item)
        else:
            events.append(item)
    return [*made, join(rows, events)]


def join(rows: Sequence[Row], events: Sequence[wire.Event]) -> Block:
    """Rows of one layout and events as a block."""
    columns = rows[0].columns if rows else ()
    block = frames({column: [row.values[i] for row in rows] for i, column in enumerate(columns)}, events=events)
    steps = np.array([row.step for row in rows], dtype=np.int64)
    present = None if block.present is None or block.present.all() else block.present
    values = block.values.reshape(len(rows), len(columns))
    return Block(block.columns, steps, steps.astype(float), values, present, block.events)


def fold(rule: Rule, pieces: Sequence[Block]) -> tuple[object, list[Finding]]:
    """A rule over blocks, one after another: its last state and all it found."""
    state, findings = rule.state(), list[Finding]()
    for block in pieces:
        state, found = rule.fold(state, block)
        findings += found
    return state, findings

"""A training watched as a user would, and what the server's rules say of the records it left on the disk."""

import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

import trainvitals
from ramps import Run
from trainvitals import wire
from trainvitals.delivery.reading import SpoolReader
from trainvitals_server.rules import Block, Finding, judge

Floats = npt.NDArray[np.float64]
EARLY = {"headroom", "headroom_falling", "variance_slope", "batch_shift", "half_variance"}  # rules 1 to 4
BLOCK = 64  # frames judged together


def watched(run: Run, steps: int, first: int = 1) -> list[wire.Record]:
    """Train `steps` steps, or up to the first non-finite loss or statistic, and read the records back."""
    with tempfile.TemporaryDirectory() as directory:
        watch = trainvitals.watch(run.model, run.optimizer, scaler=run.scaler, mode="offline", directory=directory)
        for n in range(first, first + steps):
            loss = run.step(n)
            watch.step(n, loss=loss)
            if not torch.isfinite(loss) or any(not torch.isfinite(b).all() for b in run.model.buffers()):
                break
        watch.close()
        assert watch.spool_path is not None
        return spooled(watch.spool_path)


def spooled(folder: Path) -> list[wire.Record]:
    """Every record of a producer's spool, in order."""
    reader, records = SpoolReader(folder), list[wire.Record]()
    reader.seek(0)
    while batch := reader.batch():
        records += [wire.decode_record(data) for data in batch.records]
    reader.close()
    return records


def early_findings(records: list[wire.Record]) -> list[Finding]:
    """What rules 1 to 4 fired at, in order."""
    states: dict[str, bytes] = {}
    found = list[Finding]()
    for block in blocks(records):
        states, findings, faults = judge(states, block)
        assert not faults, faults
        found += [finding for finding in findings if finding.rule in EARLY and finding.active]
    return found


def first_nonfinite(records: list[wire.Record]) -> wire.NonFinite | None:
    """The event of the first non-finite statistic, gradient, loss or output."""
    events = [record for record in records if isinstance(record, wire.NonFinite)]
    return min(events, key=lambda event: event.step, default=None)


def blocks(records: list[wire.Record]) -> Iterator[Block]:
    """The frames as the server judges them: blocks of one layout."""
    columns: dict[int, list[wire.Series]] = {}
    for record in records:
        if isinstance(record, wire.Layout):
            columns.setdefault(record.id, [])[record.offset :] = record.series
    tables = {layout: tuple(series) for layout, series in columns.items()}
    frames = (record for record in records if isinstance(record, wire.Frame))
    for layout, some in groupby(frames, key=lambda frame: frame.layout):
        run = list(some)
        for start in range(0, len(run), BLOCK):
            yield block_of(tables[layout], run[start : start + BLOCK])


def block_of(columns: tuple[wire.Series, ...], frames: list[wire.Frame]) -> Block:
    """Frames of one layout."""
    whole = np.ones(len(columns), dtype=np.bool_)
    present = [
        whole
        if frame.present is None
        else np.unpackbits(np.frombuffer(frame.present, np.uint8), count=len(columns), bitorder="little").astype(bool)
        for frame in frames
    ]
    return Block(
        columns=columns,
        steps=np.array([frame.step for frame in frames], dtype=np.int64),
        times=np.array([frame.time for frame in frames]),
        values=np.stack([np.frombuffer(frame.values, "<f4") for frame in frames]),
        present=np.stack(present),
        events=(),
    )


def values_of(records: list[wire.Record], stat: str) -> Floats:
    """Every value of a statistic that was there, of all layers."""
    found = [np.zeros(0)]
    for block in blocks(records):
        places = [place for place, series in enumerate(block.columns) if series.stat == stat]
        present = block.present[:, places] if block.present is not None else np.ones(1, dtype=np.bool_)
        found.append(block.values[:, places][present].astype(np.float64))
    return np.concatenate(found)

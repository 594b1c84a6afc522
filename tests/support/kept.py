"""Runs in a server's database that have a bit of everything, for what carries, deletes and reads them."""

import math
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from served import Served, frame, layout
from trainvitals import wire
from trainvitals_server.store import alerts, commands, events, history, journal, pieces, runs, series
from trainvitals_server.store.database import open_reading

LOSS, BROKEN = ("", wire.RUN, wire.LOSS), ("a", wire.NORM, wire.NONFINITE_CHANNELS)
COLUMNS = [LOSS, BROKEN, ("b.c", wire.PARAMETER, wire.GRAD_NORM)]
BATCH = 25


def tell(served: Served, run: str, *, frames: int = 100, state: str = "finished", start: int = 0) -> None:
    """A run with a NaN, an infinity and an absence at known steps (counted from `start`), events, an alert, a gap."""
    with served.trainer(run, f"{run}-p{start}", started=float(start + 1)) as trainer:
        trainer.hello()
        trainer.store(layout(*COLUMNS))
        for low in range(start, start + frames, BATCH):  # rows that are whole in buckets are compacted
            high = min(low + BATCH, start + frames)
            trainer.store(*(frame(step, values_at(step - start)) for step in range(low, high)))
        bad = wire.NonFinite(
            step=start + 7, time=1e6, layer="a", signal="running_statistics", kind="inf", count=1, total=4
        )
        gap = wire.Gap(count=3, reason="disk", since=1e6, until=1e6 + 1, first_step=start + 50, last_step=start + 52)
        trainer.store(bad, gap)
        trainer.send(b"\xc1")
        assert trainer.hear(wire.Nack).kind == "permanent"
        trainer.hear(wire.Ack)
        if state:
            error = "boom" if state == "failed" else ""
            trainer.store(wire.Lifecycle(step=start + frames, time=1e6, state=state, error=error))  # type: ignore[arg-type]


def values_at(step: int) -> list[float | None]:
    """What the frames say: non-finite from step 7 on for a while, absent at step 9."""
    loss = {7: math.nan, 8: math.inf, 6: -math.inf, 9: None}.get(step, 1.0 / (1 + step))
    return [loss, float(7 <= step < 20), step / 8]


def contents(path: Path, run: str) -> dict[str, Any]:
    """Everything that can be read of a run in a database file, row ids aside."""
    with closing(open_reading(path)) as connection:
        names = {row.id: (row.layer, row.kind, row.stat) for row in series.list_all(connection, run)}
        points = {}
        for piece in pieces.list_pieces(connection, run):
            everything = np.arange(len(piece.columns))
            stretch = pieces.read(connection, piece, everything)
            for column, one in enumerate(piece.columns.tolist()):
                there = np.ones(len(stretch.steps), bool) if stretch.present is None else stretch.present[:, column]
                told = zip(stretch.steps[there].tolist(), stretch.values[there, column].tolist(), strict=True)
                points |= {(piece.rank, *names[one], step): repr(value) for step, value in told}
        wide = history.read_range(connection, history.Question(run), sorted(names), 5)
        return {
            "points": points,
            "buckets": {
                names[one]: {key: value.tolist().__repr__() for key, value in wide.buckets.column(place).items()}
                for place, one in enumerate(sorted(names))
            },
            "events": [one._replace(id=0) for one in events.find(connection, run)],
            "alerts": [(one.rule, one.layer, one.status, one.text) for one in alerts.find(connection, run)],
            "set aside": journal.set_aside(connection, run),
            "commands": [one["action"] for one in commands.find(connection, run)],
            "producers": [tuple(row)[2:9] for row in runs.producer_rows(connection, run)],
        }

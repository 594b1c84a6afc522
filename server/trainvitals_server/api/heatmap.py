"""`/api/runs/{run}/heatmap`: one statistic of all layers over a range of steps, as JSON or packed."""

import struct
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from trainvitals_server.api.answers import Json, TheParts, unknown
from trainvitals_server.api.data import BINARY, Step, check_range
from trainvitals_server.auth.roles import needs
from trainvitals_server.errors import RefusedError
from trainvitals_server.jsontext import dumps, numbers
from trainvitals_server.records import gap_record
from trainvitals_server.store import heatmap, history, runs

router = APIRouter(prefix="/api/runs", dependencies=[needs("view")])


@router.get("/{run}/heatmap")
def read_heatmap(
    run: str,
    parts: TheParts,
    kind: Annotated[str, Query(max_length=200)],
    stat: Annotated[str, Query(max_length=200)],
    reduce: Annotated[str, Query(description="planes, separated by commas", max_length=200)] = "max,last,n_nonfinite",
    low: Annotated[Step, Query(alias="from")] = None,
    high: Annotated[Step, Query(alias="to")] = None,
    columns: Annotated[int, Query(ge=2, le=4000)] = 500,
    rank: Annotated[int, Query(ge=0, lt=1 << 31)] = 0,
    producer: str | None = None,
    accept: Annotated[str, Header()] = "",
) -> Response:
    """A statistic of every layer that has it, in forward order, in at most so many columns of steps. `reduce` names
    what each cell tells: `min`, `max`, `first`, `last` of its values, and how many were not finite: `n_nan`,
    `n_posinf`, `n_neginf`, `n_nonfinite`, where 254 means that many or more and 255 that there is no value at all."""
    names = parse_names(reduce)
    question = history.Question(run, *check_range(low, high), rank, producer)
    with parts.database.reading() as connection:
        if runs.get(connection, run) is None:
            raise unknown("a run", run)
        rows = heatmap.rows_of(connection, run, kind, stat)
        found = heatmap.read(connection, question, rows, columns, names)
    return binary(found, rows) if BINARY in accept else Json(as_json(found, rows))


def parse_names(text: str) -> list[str]:
    """The planes asked for, each once. Raises `RefusedError`."""
    known = (*heatmap.VALUES, *heatmap.COUNTS)
    names = list(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in known:
            raise RefusedError(422, f"query.reduce: expected some of {', '.join(known)}, got {name[:80]!r}")
    return names


def header(found: heatmap.Heatmap, rows: list[int]) -> dict[str, Any]:
    """What both forms begin with."""
    return {
        "from": found.low,
        "to": found.high,
        "start": found.start,
        "steps_per_bucket": found.width,
        "columns": found.columns,
        "series": rows,
        "gaps": [gap_record(gap) for gap in found.gaps],
    }


def as_json(found: heatmap.Heatmap, rows: list[int]) -> dict[str, Any]:
    """The answer as JSON: each plane a list of rows."""
    planes: dict[str, list[Any]] = {}
    for name, plane in found.planes.items():
        floats = name in heatmap.VALUES
        planes[name] = [numbers(row.astype(float)) if floats else row.tolist() for row in plane]
    return {**header(found, rows), "planes": planes}


def binary(found: heatmap.Heatmap, rows: list[int]) -> Response:
    """The answer packed: length and JSON header, padded to a multiple of 4 bytes, then the planes in the order of
    `planes`, row by row: values as float32, counts as uint8; those of float32 come first."""
    names = sorted(found.planes, key=lambda name: name not in heatmap.VALUES)
    head = dumps({**header(found, rows), "planes": names})
    head += b" " * (-(4 + len(head)) % 4)
    body = [found.planes[name].tobytes() for name in names]
    return Response(b"".join([struct.pack("<I", len(head)), head, *body]), media_type=BINARY)

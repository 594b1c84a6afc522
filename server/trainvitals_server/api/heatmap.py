"""`/api/runs/{run}/heatmap`: one statistic of all layers over a range of steps, as JSON or packed."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from trainvitals_server.api.answers import Json, TheParts, unknown
from trainvitals_server.api.data import Since, Step, check_range, parse_names
from trainvitals_server.api.packed import BINARY, Accept, Encodings, pack
from trainvitals_server.auth.roles import needs
from trainvitals_server.jsontext import numbers
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
    bits: Annotated[int, Query(description="significant bits of values", ge=8, le=heatmap.ALL_BITS)] = heatmap.ALL_BITS,
    since: Since = "",
    accept: Accept = "",
    encodings: Encodings = "",
) -> Response:
    """A statistic of every layer that has it, in forward order, in at most so many columns of steps. `reduce` names
    what each cell tells: `min`, `max`, `first`, `last` of its values, and how many were not finite: `n_nan`,
    `n_posinf`, `n_neginf`, `n_nonfinite`, where 254 means that many or more and 255 that there is no value at all.
    Values are rounded to so many significant `bits`: the fewer, the shorter the packed answer. `since` and `through`
    are those of `/data`; the columns told begin at step `start`."""
    names = parse_names("reduce", reduce, (*heatmap.VALUES, *heatmap.COUNTS))
    question = history.Question(run, *check_range(low, high), rank, producer)
    with parts.database.reading() as connection:
        if runs.get(connection, run) is None:
            raise unknown("a run", run)
        rows = heatmap.rows_of(connection, run, kind, stat)
        found = heatmap.read(connection, question, rows, columns, names, since)
    found = heatmap.rounded(found, bits)
    return binary(found, rows, encodings) if BINARY in accept else Json(as_json(found, rows))


def header(found: heatmap.Heatmap, rows: list[int]) -> dict[str, Any]:
    """What both forms begin with."""
    return {
        "from": found.low,
        "to": found.high,
        "through": found.through,
        "start": found.start,
        "steps_per_bucket": found.width,
        "columns": found.columns,
        "mark": found.mark,
        "since": found.since,
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


def binary(found: heatmap.Heatmap, rows: list[int], encodings: str) -> Response:
    """The answer packed: the header padded to a multiple of 4 bytes, then the planes in the order of `planes`, row by
    row: values as float32, counts as uint8; those of float32 come first."""
    names = sorted(found.planes, key=lambda name: name not in heatmap.VALUES)
    arrays = [found.planes[name].tobytes() for name in names]
    return pack({**header(found, rows), "planes": names}, arrays, 4, encodings)

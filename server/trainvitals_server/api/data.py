"""`/api/runs/{run}/data`: buckets of some series over a range of steps, as JSON or as packed float64."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from trainvitals_server.api.answers import Json, TheParts, unknown
from trainvitals_server.api.packed import BINARY, Accept, Encodings, pack
from trainvitals_server.auth.roles import needs
from trainvitals_server.errors import RefusedError
from trainvitals_server.jsontext import numbers
from trainvitals_server.records import gap_record
from trainvitals_server.store import history, runs, series
from trainvitals_server.store.buckets import FIELDS

MAX_SERIES = 2000
MAX_POINTS = 4000
COUNTS = ("step", "n", "n_nan", "n_posinf", "n_neginf")
Step = Annotated[int | None, Query(ge=-(1 << 53), le=1 << 53)]
Since = Annotated[str, Query(description="the mark of an earlier answer", max_length=4000)]

router = APIRouter(prefix="/api/runs", dependencies=[needs("view")])


@router.get("/{run}/data")
def read_data(
    run: str,
    parts: TheParts,
    series: Annotated[str, Query(description="series ids, separated by commas", max_length=40_000)],
    low: Annotated[Step, Query(alias="from")] = None,
    high: Annotated[Step, Query(alias="to")] = None,
    points: Annotated[int, Query(ge=1, le=MAX_POINTS)] = 500,
    rank: Annotated[int, Query(ge=0, lt=1 << 31)] = 0,
    producer: str | None = None,
    fields: Annotated[str, Query(description="of the buckets, separated by commas", max_length=200)] = ",".join(FIELDS),
    since: Since = "",
    accept: Accept = "",
    encodings: Encodings = "",
) -> Response:
    """Buckets of the series, at most two per point; by default over all steps, of rank 0 and the newest producers. An
    answer's `mark`, given as `since` with the same question, asks for what has changed: the next answer then replaces
    the buckets from step `since` on, or is whole where that is null. It reaches to step `through`."""
    wanted, names = parse_ids(series), parse_names("fields", fields, FIELDS)
    question = history.Question(run, *check_range(low, high), rank, producer)
    with parts.database.reading() as connection:
        check_series(connection, run, wanted)
        found = history.read_range(connection, question, wanted, points, since)
    return binary(found, wanted, names, encodings) if BINARY in accept else Json(as_json(found, wanted, names))


def check_range(low: int | None, high: int | None) -> tuple[int | None, int | None]:
    """The steps asked for. Raises `RefusedError`."""
    if low is not None and high is not None and low > high:
        raise RefusedError(422, f"query.from: expected a step at or before query.to ({high}), got {low}")
    return None if low is None else max(low, 0), high


def parse_names(what: str, text: str, known: Sequence[str]) -> list[str]:
    """The names in a comma-separated list, each once. Raises `RefusedError`."""
    names = list(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in known:
            raise RefusedError(422, f"query.{what}: expected some of {', '.join(known)}, got {name[:80]!r}")
    return names


def parse_ids(text: str) -> list[int]:
    """The ids in a comma-separated list, each once. Raises `RefusedError`."""
    try:
        wanted = list(dict.fromkeys(int(part) for part in text.split(",") if part))
    except ValueError:
        raise RefusedError(422, f"query.series: expected ids separated by commas, got {text[:80]!r}") from None
    if not 1 <= len(wanted) <= MAX_SERIES:
        raise RefusedError(422, f"query.series: expected 1 to {MAX_SERIES} ids, got {len(wanted)}")
    return wanted


def check_series(connection: Any, run: str, wanted: list[int]) -> None:
    """Raise `RefusedError` unless the run exists and these are its series."""
    if runs.get(connection, run) is None:
        raise unknown("a run", run)
    stray = set(wanted) - {row.id for row in series.list_all(connection, run)}
    if stray:
        raise unknown(f"a series of run {run}", min(stray))


def header(found: history.Range) -> dict[str, Any]:
    """What both forms begin with."""
    ends = {"from": found.low, "to": found.high, "through": found.through, "steps_per_bucket": found.buckets.width}
    return {**ends, "mark": found.mark, "since": found.since, "gaps": [gap_record(gap) for gap in found.gaps]}


def as_json(found: history.Range, wanted: list[int], names: list[str]) -> dict[str, Any]:
    """The answer as JSON."""
    listed = []
    for place, identity in enumerate(wanted):
        column = found.buckets.column(place)
        told = {name: column[name] for name in ("step", *names)}
        counts = {name: values.astype(int).tolist() for name, values in told.items() if name in COUNTS}
        rest = {name: numbers(values) for name, values in told.items() if name not in COUNTS}
        listed.append({"id": identity, **counts, **rest})
    return {**header(found), "series": listed}


def binary(found: history.Range, wanted: list[int], names: list[str], encodings: str) -> Response:
    """The answer packed: the header padded to a multiple of 8 bytes, then float64 series by series, field by field."""
    columns = [found.buckets.column(place) for place in range(len(wanted))]
    sizes = [{"id": one, "buckets": len(column["step"])} for one, column in zip(wanted, columns, strict=True)]
    fields = ["step", *names]
    arrays = [column[name].astype("<f8").tobytes() for column in columns for name in fields]
    return pack({**header(found), "series": sizes, "fields": fields}, arrays, 8, encodings)

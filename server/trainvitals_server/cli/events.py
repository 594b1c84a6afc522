"""List the events of a run, oldest first."""

import argparse
from collections.abc import Iterator

from trainvitals_server.cli import client
from trainvitals_server.cli.text import cell, moment, safe, show_json

PAGE = 500  # events per request
TIMES = ("since", "until")  # fields in Unix seconds


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which events, and how to print."""
    parser.add_argument("target", metavar="RUN", help="id or name of a run, or the beginning of one")
    parser.add_argument("--type", metavar="A,B", help="only these types, such as nonfinite,sanitized,validation")
    parser.add_argument("--from", dest="first", type=int, metavar="STEP", help="from this step")
    parser.add_argument("--to", dest="last", type=int, metavar="STEP", help="up to this step")
    parser.add_argument("--json", action="store_true", help="print JSON, one event per line")
    client.arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Print one line per event."""
    with client.connect(options) as server:
        name = client.resolve(server, options.target)
        for event in follow(server, name, type=options.type, to=options.last, **{"from": options.first}):
            show_json(event) if options.json else print(line(event), flush=True)
    return 0


def follow(server: client.Client, run: str, after: int | None = None, **query: object) -> Iterator[client.Object]:
    """Every stored event behind the one with id `after`, page by page."""
    while True:
        answer = server.get(f"/api/runs/{run}/events", after=after, limit=PAGE, **query)
        yield from answer["events"]
        after = answer["next"]
        if after is None or not answer["events"]:
            return


def line(event: client.Object) -> str:
    """One event: step, type, layer, and its fields."""
    data = ", ".join(
        f"{name} {moment(field) if name in TIMES and isinstance(field, float) else value(field)}"
        for name, field in event["data"].items()
        if field not in (None, "", [], {})
    )
    layer = f"{safe(event['layer'])}: " if event["layer"] else ""
    return f"{cell(event['step']):>9}  {safe(event['type']):<10}  {layer}{data}"


def value(field: object) -> str:
    """A field's value, short: lists of objects by their layers, objects by their items."""
    if isinstance(field, dict):
        return "(" + ", ".join(f"{safe(name)} {value(item)}" for name, item in field.items()) + ")"
    if isinstance(field, list):
        return ", ".join(value(item.get("layer", item)) if isinstance(item, dict) else value(item) for item in field)
    return cell(field, 200)

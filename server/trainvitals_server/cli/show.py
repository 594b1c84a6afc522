"""Show one run: verdict, what ended it or where it hangs, what was lost, producers, incidents, alerts, validations."""

import argparse
from collections.abc import Iterator

from trainvitals_server.cli import client
from trainvitals_server.cli.failure import warn
from trainvitals_server.cli.text import cell, clock, count, safe, show_json, table

VALIDATIONS = 10  # the newest ones shown


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which run, and how to print."""
    parser.add_argument("target", metavar="RUN", help="id or name of a run, or the beginning of one")
    parser.add_argument("--json", action="store_true", help="print JSON")
    client.arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Print what is known of a run."""
    with client.connect(options) as server:
        name = client.resolve(server, options.target)
        summary = server.get(f"/api/runs/{name}")
        incidents = server.get(f"/api/runs/{name}/incidents")["incidents"]
        alerts = server.get("/api/alerts", run=name)["alerts"]
        trouble = server.trouble()
    if options.json:
        show_json({**summary, "incidents": incidents, "alerts": alerts})
    else:
        print("\n".join(describe(summary, incidents, alerts)))
    if trouble:
        warn(safe(trouble))
    return 0


def describe(summary: client.Object, incidents: list[client.Object], alerts: list[client.Object]) -> Iterator[str]:
    """The run as text, section by section."""
    yield f"{safe(summary['name'])} ({safe(summary['id'])}): {safe(summary['verdict']['text'])}"
    yield from facts(summary)
    yield from losses(summary)
    yield from end(summary)
    for incident in incidents:
        yield from tell(incident)
    if alerts:
        yield "\nAlerts"
        rows = ((a["id"], a["severity"], a["status"], a["first_step"], a["count"], a["text"]) for a in alerts)
        yield table(("ID", "SEVERITY", "STATUS", "SINCE STEP", "COUNT", "WHAT"), rows)
    points = summary.get("validations", [])[-VALIDATIONS:]
    if points:
        yield "\nValidations"
        yield table(("STEP", "VALID", "ERRORS", "NON-FINITE", "MEAN LOSS", "METRICS"), map(validation, points))


def facts(summary: client.Object) -> Iterator[str]:
    """State, progress and producers."""
    yield f"state      {safe(summary['state'])}{', ' + safe(summary['reason']) if summary.get('reason') else ''}"
    pace = f"{cell(summary['steps_per_s'])} steps/s, seen {clock(summary['last_seen'])}"
    yield f"step       {cell(summary['step'])} ({pace})"
    counts = summary.get("counts", {})
    yield f"records    {cell(counts.get('frames'))} frames, {cell(counts.get('events'))} events"
    for producer in summary.get("producers", []):
        where = (
            f"rank {producer['rank']} of {producer['world_size']} on {safe(producer['host'])}, pid {producer['pid']}"
        )
        yield f"producer   {safe(producer['producer'])}: {where}, {'connected' if producer['connected'] else 'away'}"
    if summary.get("outcome"):
        yield f"imported   it was {safe(summary['outcome'])} where it came from"
    if summary.get("pinned"):
        yield "pinned     kept whatever --retain says"
    yield f"repairs    {cell(summary['sanitizations'])}{', altered' if summary['altered'] else ''}"


def losses(summary: client.Object) -> Iterator[str]:
    """What the run's record lacks."""
    lost = summary.get("lost", {})
    if lost.get("gaps"):
        yield f"lost       {count(lost['records'], 'record')} in {count(lost['gaps'], 'gap')}"
    for one in lost.get("reasons", []):
        alone = one["from"] == one["to"]
        steps = f"at step {cell(one['from'])}" if alone else f"steps {cell(one['from'])} to {cell(one['to'])}"
        yield f"           {cell(one['records'])}: {safe(one['reason'])}, {steps}"
    for one in summary.get("set_aside", []):
        yield f"set aside  {count(one['count'], 'record')}: {safe(one['reason'])}"


def end(summary: client.Object) -> Iterator[str]:
    """The exception or signal that ended the run, with its traceback; where it hangs."""
    failure, hanging = summary.get("failure"), summary.get("hanging")
    if failure:
        what = ": ".join(safe(part) for part in (failure["type"], failure["message"]) if part)
        where = f"step {cell(failure['step'])}" + (f", rank {failure['rank']}" if failure["rank"] else "")
        yield f"\nFailed at {where}: {what}"
        yield from (f"  {safe(line)}" for line in failure["traceback"].splitlines())
    if hanging:
        yield f"\n{safe(hanging['text'])}"
        yield from (f"  {safe(line)}" for line in hanging["stack"].splitlines())


def tell(incident: client.Object) -> Iterator[str]:
    """One incident: its chain and what to change."""
    state = "open" if incident["open"] else "over"
    yield f"\nIncident at step {cell(incident['first_bad_step'])} in {safe(incident['first_bad_layer'])} ({state})"
    for link in incident["chain"]:
        yield f"  {cell(link['step']):>9}  {safe(link['text'])}"
    for line in incident["advice"]:
        yield f"  advice     {safe(line)}"


def validation(point: client.Object) -> tuple[object, ...]:
    """The cells of one validation."""
    metrics = ", ".join(f"{name} {cell(value)}" for name, value in (point["metrics"] or {}).items())
    tried = point["valid"] + point["failed"]
    return (
        point["step"],
        f"{point['valid']} of {tried}",
        point["errors"],
        point["nonfinite"],
        point["mean_loss"],
        metrics,
    )

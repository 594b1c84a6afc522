"""How the server itself is: for load balancers, for Prometheus, and for those who read its interface."""

from collections.abc import Iterator

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from trainvitals_server.api.answers import Json, TheParts
from trainvitals_server.auth.roles import needs
from trainvitals_server.parts import Parts
from trainvitals_server.store import alerts, events, journal, notifications, runs

router = APIRouter()


@router.get("/healthz", dependencies=[needs("public")])
async def alive() -> Json:
    """The process answers."""
    return Json({"status": "ok"})


@router.get("/readyz", dependencies=[needs("public")])
async def ready(parts: TheParts) -> Json:
    """What trainers tell can be stored; 503 while it cannot."""
    if not parts.writer.is_alive():
        return Json({"detail": "the writer has ended"}, 503)
    if parts.writer.trouble:
        return Json({"detail": parts.writer.trouble}, 503)
    warning = parts.writer.warning
    return Json({"status": "ready"} | ({"warning": warning} if warning else {}))


@router.get("/metrics", dependencies=[needs("view")])
def metrics(parts: TheParts) -> Response:
    """The server's own vital signs, as Prometheus text."""
    return PlainTextResponse("".join(lines(parts)), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/openapi.json", dependencies=[needs("view")], include_in_schema=False)
async def describe(request: Request) -> Json:
    """This interface, described."""
    return Json(request.app.openapi())


def lines(parts: Parts) -> Iterator[str]:
    """Every metric with its help and type."""
    with parts.database.reading() as connection:
        states = runs.state_counts(connection)
        totals = {
            "frames_stored_total": ("Frames stored.", runs.frame_count(connection)),
            "events_stored_total": ("Events stored.", events.count(connection)),
            "quarantined_total": ("Records that were set aside.", journal.quarantined(connection)),
        }
        outbox = notifications.counts(connection)
        totals |= {
            "notifications_sent_total": ("Messages that every target has.", outbox.get("sent", 0)),
            "notifications_failed_total": ("Messages given up.", outbox.get("failed", 0)),
        }
        opened = sum(alert.status != "resolved" for alert in alerts.find(connection))
    hub = parts.hub
    totals |= {
        "commits_total": ("Transactions committed since the start.", parts.writer.commits),
        "frames_dropped_total": (
            "Frames not sent to slow browsers.",
            hub.dropped + sum(c.dropped for c in tuple(hub.clients)),
        ),
    }
    gauges = {
        "trainers": ("Connected trainers.", len(parts.connections)),
        "browsers": ("Connected live sockets.", len(hub.clients)),
        "alerts_open": ("Alerts that are not resolved.", opened),
        "notifications_waiting": ("Messages not sent yet.", outbox.get("waiting", 0)),
        "log_bytes": ("Size of the write-ahead log.", parts.writer.log_bytes),
        "warning": ("1 while something keeps the log from being emptied.", int(bool(parts.writer.warning))),
        "writable": ("1 while the database can be written.", int(not parts.writer.trouble)),
    }
    for kind, metrics in (("counter", totals), ("gauge", gauges)):
        for name, (text, value) in metrics.items():
            yield f"# HELP trainvitals_{name} {text}\n# TYPE trainvitals_{name} {kind}\ntrainvitals_{name} {value}\n"
    yield "# HELP trainvitals_runs Runs by state.\n# TYPE trainvitals_runs gauge\n"
    yield from (f'trainvitals_runs{{state="{state}"}} {count}\n' for state, count in states.items())

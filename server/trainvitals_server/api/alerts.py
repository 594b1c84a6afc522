"""`/api/alerts`: what the rules found."""

from fastapi import APIRouter
from starlette.requests import Request

from trainvitals_server.alerts import Alert, Status, acknowledge
from trainvitals_server.api.answers import Json, TheParts, unknown
from trainvitals_server.auth.guard import Principal
from trainvitals_server.auth.roles import needs
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.records import alert_record
from trainvitals_server.store import alerts, journal

router = APIRouter(prefix="/api/alerts")


@router.get("", dependencies=[needs("view")])
def list_alerts(parts: TheParts, run: str | None = None, status: Status | None = None) -> Json:
    """Alerts, of one run or all, of one status or any."""
    with parts.database.reading() as connection:
        return Json({"alerts": [alert_record(alert) for alert in alerts.find(connection, run, status)]})


@router.post("/{alert}/ack", dependencies=[needs("control")])
async def acknowledge_alert(alert: int, request: Request, parts: TheParts) -> Json:
    """Say that somebody has seen it."""
    principal: Principal = request.state.principal
    return Json(alert_record(await parts.write(lambda tx: _acknowledge(tx, alert, principal))))


def _acknowledge(tx: Transaction, identity: int, principal: Principal) -> Alert:
    before = alerts.get_by_id(tx.connection, identity) if abs(identity) < 1 << 62 else None
    if before is None:
        raise unknown("an alert", identity)
    after = acknowledge(before, tx.now)
    journal.audit(
        tx.connection,
        tx.now,
        role=principal.role,
        origin=principal.address,
        action="acknowledge",
        run=after.run,
        command=None,
        outcome=after.status,
        detail=f"alert {identity}, {before.status} before",
    )
    if after != before:
        tx.changes[after.run].alerts.append(alerts.save(tx.connection, after))
    return after

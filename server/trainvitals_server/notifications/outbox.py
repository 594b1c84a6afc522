"""Putting messages into the outbox, as the last act of the writer's work that was notable, in the same transaction.

- What trainers tell of a time more than an hour past is stored, and nobody is notified of it: a spool that was found
  late, or carried here, tells old news. A trainer whose clock is wrong by more than that is silent in the same way;
  the log says so once for each run.
- At most `PER_HOUR` messages an hour are sent of one run, the last few of which are kept for its own failing or being
  lost. What is more is counted, and told an hour later in one message.
- A message that cannot be made is logged; what was to be stored is stored all the same.
"""

import logging
from itertools import groupby

import msgspec

from trainvitals_server.errors import StoreBusyError
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.notifications.message import Message, compose, summarize, worst
from trainvitals_server.notifications.notable import AlertChange, Notable
from trainvitals_server.store import notifications, runs
from trainvitals_server.store.transactions import part

PER_HOUR = 20
KEPT_FOR_ENDINGS = 4
HOUR = 3600.0

log = logging.getLogger("trainvitals.server")


class Outbox:
    """Used by the writer's thread only."""

    def __init__(self) -> None:
        self._silent: set[str] = set()  # runs of which the log has said that their news is old

    def fill(self, tx: Transaction) -> None:
        """Put in the messages about what was noted in this piece of work. Raises `StoreBusyError`."""
        if not tx.notable:
            return
        try:
            with part(tx.connection):
                for run, notable in groupby(sorted(tx.notable, key=run_of), run_of):
                    self._fill(tx, run, list(notable))
        except StoreBusyError:
            raise
        except Exception:  # a message must not cost the records that it tells of
            log.exception("a notification could not be made")

    def _fill(self, tx: Transaction, run: str, notable: list[Notable]) -> None:
        fresh = [one for one in notable if one.told >= tx.now - HOUR]
        if len(fresh) < len(notable) and run not in self._silent:
            self._silent.add(run)
            log.warning("run %s tells of what is more than an hour old by its clock: nobody is notified of that", run)
        row = runs.get(tx.connection, run)
        name = row["name"] if row is not None and row["name"] else run
        for message in compose(fresh, name):
            enter(tx, message, name)


def run_of(one: Notable) -> str:
    """The run that something is about."""
    return one.alert.run if isinstance(one, AlertChange) else one.run


def enter(tx: Transaction, message: Message, run_name: str) -> None:
    """Add a message, or count it where the hour is full."""
    room = PER_HOUR - (KEPT_FOR_ENDINGS if message.rule else 0)
    if notifications.count_since(tx.connection, message.run, tx.now - HOUR) < room:
        notifications.add(tx.connection, message, now=tx.now, due=tx.now)
    else:
        hold(tx, message, run_name)


def hold(tx: Transaction, message: Message, run_name: str) -> None:
    """Count a message in the digest that waits, or open one, which is due in an hour."""
    waiting = notifications.open_digest(tx.connection, message.run, tx.now)
    if waiting is None:
        digest = summarize(message.run, run_name, 1, message, tx.now)
        notifications.add(tx.connection, digest, now=tx.now, due=tx.now + HOUR, held=1)
        return
    before, held = waiting
    digest = summarize(message.run, run_name, held + 1, message, tx.now)
    severity = worst((before.severity, message.severity))
    kept = msgspec.structs.replace(digest, id=before.id, severity=severity)
    notifications.rewrite(tx.connection, kept, held=held + 1)

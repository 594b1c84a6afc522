"""Letting the rules see a block, inside the writer's transaction, and what becomes of their findings."""

import numpy as np

from trainvitals import wire
from trainvitals_server.alerts import Alert, advance, supersede
from trainvitals_server.ingest.books import Books
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.notifications.notable import AlertChange, change
from trainvitals_server.rules import Block, Finding
from trainvitals_server.runs import transitions
from trainvitals_server.store import alerts, events, rule_states, runs

MAX_LAYERS = 200  # with open alerts of one rule


def judge_block(tx: Transaction, books: Books, producer: runs.Producer, block: Block, *, newest: bool) -> None:
    """Let the rules see a block; store what they remember, what they found, and which of them failed."""
    sheet = books.sheet(tx.connection, producer.id)
    findings, faults = sheet.rules.judge(block)
    rule_states.save(tx.connection, producer.id, sheet.rules.changes())
    for finding in findings:
        before = alerts.get(tx.connection, producer.run, finding.rule, finding.layer, producer.rank)
        after = _follow(before, finding, producer, tx.now, newest=newest)
        if after is not None and after != before and (before is not None or _room(tx, after)):
            saved = alerts.save(tx.connection, after)
            tx.changes[producer.run].alerts.append(saved)
            if how := change(before, saved):
                tx.notable.append(AlertChange(saved, how, _time(block, finding.step)))
    step = int(block.steps[-1]) if len(block.steps) else block.events[-1].step
    for rule, error in faults:
        fault = wire.ProbeFault(step=step, time=tx.now, probe=f"rule {rule}", error=error, disabled=True)
        transitions.record_event(tx, producer, fault, seq=events.SERVER)


def _time(block: Block, step: int) -> float:
    """When the trainer reached a step of this block, by its clock (Unix seconds)."""
    told = [event.time for event in block.events if event.step == step]
    if told or not len(block.steps):
        return max(told or [event.time for event in block.events])
    return float(block.times[max(0, int(np.searchsorted(block.steps, step, "right")) - 1)])


def _room(tx: Transaction, alert: Alert) -> bool:
    """Whether one more layer may alert. Where hundreds already do, another says nothing new: the run's verdict and its
    list of non-finite layers name it all the same."""
    return alerts.count_open(tx.connection, alert.run, alert.rank, alert.rule) < MAX_LAYERS


def _follow(
    before: Alert | None, finding: Finding, producer: runs.Producer, now: float, *, newest: bool
) -> Alert | None:
    """The alert after a finding. What an older process still tells of its past is kept, but it opens nothing, since
    nobody is left who could clear it, and closes nothing that is the newer one's."""
    if newest:
        return advance(before, finding, producer.run, now, producer.rank)
    if before is not None and before.status != "resolved":
        return before
    after = advance(before, finding, producer.run, now, producer.rank)
    return supersede(after, finding.text, now) if after is not None else None


def close_alerts(tx: Transaction, producer: runs.Producer) -> None:
    """Resolve what is open about a rank whose process has been followed by `producer`: the rules of the new one begin
    anew, and would never clear what they have not seen. A fresh break makes these alerts regress."""
    for alert in alerts.find_open(tx.connection, producer.run, producer.rank):
        text = f"Over, because another process resumed the run. Before: {alert.text}"
        after = supersede(alert, text, tx.now)
        tx.changes[producer.run].alerts.append(alerts.save(tx.connection, after))

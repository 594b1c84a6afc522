"""One message: what notable changes say to people. Names come from trainers and may be hostile, so characters that
could do anything but be read are written as escapes, and every length is bounded."""

import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from trainvitals_server.alerts.life import RANK
from trainvitals_server.cli.text import safe
from trainvitals_server.notifications.notable import AlertChange, Ending, Notable
from trainvitals_server.rules import Severity

MAX_TITLE, MAX_TEXT = 200, 2000
MAX_NAME = 60  # of a run or layer in a title
SHOWN = 5  # alerts whose text is told in full

AGAIN = {"firing": "", "regressed": " again", "escalated": ", now critical"}


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message. `id` is the same however often it is sent; `path` is the page's, without the server's address; `time`
    is Unix seconds."""

    id: str
    run: str
    title: str
    text: str
    severity: Severity
    path: str
    time: float
    layer: str | None = None
    rule: str | None = None
    step: int | None = None


def compose(notable: Iterable[Notable], run_name: str) -> list[Message]:
    """The messages about notable changes of one run in one transaction: alerts of one rule are told together, and one
    that changed several times, by its last change."""
    rules: dict[str, dict[tuple[int, str | None], AlertChange]] = {}
    endings = []
    for one in notable:
        if isinstance(one, AlertChange):
            rules.setdefault(one.alert.rule, {})[one.alert.rank, one.alert.layer] = one
        else:
            endings.append(one)
    told = [_alerts(list(changes.values()), run_name) for changes in rules.values()]
    return told + [_ending(one, run_name) for one in endings]


def summarize(run: str, run_name: str, count: int, last: Message, now: float) -> Message:
    """One message in place of `count` others, the `last` of which may be the worst."""
    noun = "notification" if count == 1 else "notifications"
    return Message(
        id=identify("digest", run, repr(now)),
        run=run,
        title=_cut(f"And {count:,} more {noun} of {_name(run_name)}", MAX_TITLE),
        text=_cut(
            f"More came within an hour than are sent one by one; {count:,} {noun} were held back. The last of them:\n"
            f"{last.title}\n{last.text}",
            MAX_TEXT,
        ),
        severity=last.severity,
        path=last.path,
        time=now,
        step=last.step,
    )


def identify(*parts: object) -> str:
    """The id of an event: the same for the same parts, whenever and wherever it is made."""
    return hashlib.sha256("\n".join(map(repr, parts)).encode("utf-8", "backslashreplace")).hexdigest()[:32]


def worst(severities: Iterable[Severity]) -> Severity:
    """The worst of some severities."""
    return max(severities, key=RANK.__getitem__)


def _alerts(changes: Sequence[AlertChange], run_name: str) -> Message:
    """One message about changed alerts of one rule. An alert's count grows whenever its rule speaks, so run, rank,
    rule, layer and count name this change and no other."""
    first = changes[0].alert
    step = min(one.alert.last_step for one in changes)
    keys = [(one.alert.rank, one.alert.layer, one.alert.count) for one in changes]
    where = f" on {len(changes)} layers" if len(changes) > 1 else f" in {_name(first.layer)}" if first.layer else ""
    hows = {one.how for one in changes}
    again = AGAIN[hows.pop()] if len(hows) == 1 else ""
    lines = [safe(one.alert.text) for one in changes[:SHOWN]]
    if len(changes) > SHOWN:
        lines.append(f"And {len(changes) - SHOWN} more.")
    rank = f", rank {first.rank}" if first.rank else ""
    severity = worst(one.alert.severity for one in changes)
    return Message(
        id=identify("alert", first.run, first.rule, *keys),
        run=first.run,
        title=_cut(f"{severity}: {safe(first.title)}{where}{again} ({_name(run_name)}{rank})", MAX_TITLE),
        text=_cut("\n".join([*lines, f"Run {_name(run_name)}{rank}, step {step:,}, rule {first.rule}."]), MAX_TEXT),
        severity=severity,
        path=_path(first.run, step),
        time=changes[0].told,
        layer=_cut(safe(first.layer), MAX_TITLE) if len(changes) == 1 and first.layer else None,
        rule=first.rule,
        step=step,
    )


def _ending(one: Ending, run_name: str) -> Message:
    severity: Severity = "critical" if one.state == "failed" else "warning"
    reason = f": {safe(one.reason)}" if one.reason else ""
    verb = "has failed" if one.state == "failed" else "is lost"
    return Message(
        id=identify("state", one.run, one.state, one.producer, one.time),
        run=one.run,
        title=_cut(f"{severity}: the run {_name(run_name)} {verb}", MAX_TITLE),
        text=_cut(f"The run {_name(run_name)} {verb} at step {one.step:,}{reason}", MAX_TEXT),
        severity=severity,
        path=_path(one.run, one.step),
        time=one.time,
        step=one.step,
    )


def _path(run: str, step: int) -> str:
    """The page of a run, looking at a step. A run's id needs no quoting (wire.ID_PATTERN)."""
    return f"/runs/{run}?step={step}"


def _name(name: str | None) -> str:
    return _cut(safe(name or ""), MAX_NAME)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"

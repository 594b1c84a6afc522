"""What ended a run that failed, and where a run hangs: as its trainer told it."""

from collections.abc import Mapping
from typing import Any

from trainvitals import wire
from trainvitals_server.clock import iso
from trainvitals_server.runs.heard import HUNG
from trainvitals_server.runs.states import OPEN
from trainvitals_server.runs.story import Story

Object = dict[str, Any]


def failure(story: Story, state: str, newest: Mapping[int, str]) -> Object | None:
    """The exception (or signal) that ended the run, or the first of its other ranks that failed: type, message,
    traceback, and when. None where nothing failed. `newest` is the newest producer of each rank."""
    found = [
        (rank, event)
        for event, (rank, producer) in zip(story.events, story.tellers, strict=False)
        if isinstance(event, wire.Lifecycle) and event.state == "failed" and newest.get(rank) == producer
    ]
    leading = [one for one in found if one[0] == 0] if state == "failed" else []
    others = sorted((one for one in found if one[0]), key=lambda one: one[1].time)
    return _told(*(leading or others)[0]) if leading or others else None


def _told(rank: int, event: wire.Lifecycle) -> Object:
    kind, _, message = event.error.partition(": ")
    return {
        "type": kind or event.reason or "unknown",
        "message": message,
        "traceback": event.traceback,
        "rank": rank,
        "step": event.step,
        "time": iso(event.time),
    }


def hanging(story: Story, state: str, step: int | None) -> Object | None:
    """Where the training thread was when no step had ended for long, while none has ended since; `step` is the run's
    newest."""
    notices = [one for one in story.of_rank(0) if isinstance(one, wire.Notice) and one.code == HUNG]
    if not notices or state not in OPEN or notices[-1].step < (step or 0):
        return None
    text, _, stack = notices[-1].text.partition("\n")
    return {"text": text, "stack": stack, "step": notices[-1].step, "time": iso(notices[-1].time)}

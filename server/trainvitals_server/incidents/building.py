"""From a run's events, in the order of their sequence, to its incidents.

Theory of operation. At most one case is current. It begins with the first event that shows something broken that no
skipped step has undone: running statistics that are not finite, a non-finite gradient or loss in a step that was taken,
a corrupt tensor found by a check, a validation of a broken model, a refused checkpoint. Non-finite gradients in skipped
steps are a grad scaler's daily work: they are remembered for a few steps, and join the case if one begins.

While a case is broken everything that follows joins its chain. A sanitization that leaves nothing broken heals it, and
so does a check that finds everything finite. What then proves it (a clean check, a verified command, a good
validation, a saved checkpoint) still joins; something broken again reopens it as long as nothing has proved the
repair, and begins a new case afterwards.
"""

from collections.abc import Callable, Sequence
from typing import Any

from trainvitals import wire
from trainvitals_server.incidents import sentences
from trainvitals_server.incidents.case import Case, lasting
from trainvitals_server.incidents.incident import Incident

REACH = 5  # steps a skipped overflow is remembered as a possible cause


def build(events: Sequence[wire.Event]) -> list[Incident]:
    """The incidents of a run, oldest first."""
    story = Story()
    for event in events:
        handle = HANDLERS.get(type(event))
        if handle:
            handle(story, event)
    return [case.close() for case in story.cases]


class Story:
    """The cases so far, and the skipped overflows that may belong to the next one."""

    def __init__(self) -> None:
        self.cases: list[Case] = []
        self.overflows: list[wire.NonFinite] = []
        self.origin: wire.Culprit | None = None

    @property
    def current(self) -> Case | None:
        """The newest case, over or not."""
        return self.cases[-1] if self.cases else None

    def broken(self, event: wire.Event) -> Case:
        """The case that something broken belongs to: the current one unless it is over."""
        case = self.current
        anew = isinstance(event, wire.NonFinite | wire.Sanitized)
        if case is None or case.proved or (case.healed is not None and anew):
            case = Case([old for old in self.overflows if 0 <= event.step - old.step <= REACH])
            if self.origin is not None and 0 <= event.step - self.origin.step <= REACH:
                case.trace(self.origin)
            self.cases.append(case)
            self.overflows, self.origin = [], None
        return case


def nonfinite(story: Story, event: wire.NonFinite) -> None:
    """A layer's signal went bad; not one that is replaced by rank 0's at the next forward."""
    if event.passing:
        return
    case = story.current
    running = case and (case.healed is None or event.step <= case.healed)  # also what was seen late
    if case and running and (lasting(event) or event.step - case.since <= REACH):
        case.add(event)
    elif lasting(event):
        story.broken(event).add(event)
    else:
        story.overflows = [old for old in story.overflows if event.step - old.step <= REACH] + [event]


def origin(story: Story, event: wire.Culprit) -> None:
    """A replay found what broke first: of the current case, or of one that may yet begin."""
    case = story.current
    if case and 0 <= event.step - case.since <= REACH and (case.healed is None or event.step <= case.healed):
        case.trace(event)
    else:
        story.origin = event


def sanitized(story: Story, event: wire.Sanitized) -> None:
    """One pass repaired something."""
    case = story.current
    late = case and not case.proved and case.healed is not None and event.step <= case.healed
    (case if case and late else story.broken(event)).repair(event)


def health(story: Story, event: wire.HealthCheck) -> None:
    """A check found corrupt tensors, or none."""
    case = story.current
    if not event.healthy:
        if not (case and case.healed == event.step):  # the check that led to that very repair
            story.broken(event).corrupt(event, event.keys, "unhealthy", sentences.unhealthy(event))
    elif case and not case.proved:
        case.clean(event, weights=event.origin == "health")


def validation(story: Story, event: wire.Validation) -> None:
    """A validation was empty or tainted, or good."""
    case = story.current
    if event.tainted or (not event.valid and event.nonfinite):
        story.broken(event).corrupt(event, [], "validation", sentences.bad_validation(event))
    elif event.valid and case and case.healable:
        case.prove(event, "validation", sentences.good_validation(event))


def checkpoint(story: Story, event: wire.Checkpoint) -> None:
    """A checkpoint was refused, or saved."""
    case = story.current
    if event.outcome == "refused":
        story.broken(event).corrupt(event, [event.key] if event.key else [], "refused", sentences.refused(event))
    elif event.outcome == "saved" and case and case.healable:
        case.prove(event, "saved", sentences.saved(event))


def command(story: Story, event: wire.CommandUpdate) -> None:
    """A command to this run came to its end."""
    case = story.current
    if case is None or event.result.get("dry_run"):
        return
    if event.state == "verified" and case.healed is not None:
        case.prove(event, "verified", sentences.verified(event))
    elif event.state in ("refused", "failed", "expired", "unknown") and case.healed is None:
        case.note(event, None, sentences.undone(event))


def lifecycle(story: Story, event: wire.Lifecycle) -> None:
    """The run ended in the middle of a case."""
    case = story.current
    if case and case.healed is None and event.state in ("finished", "failed"):
        case.note(event, None, sentences.ended(event))


def notice(story: Story, event: wire.Notice) -> None:
    """The trainer had something to say in the middle of a case."""
    case = story.current
    if case and not case.proved:
        case.note(event, None, event.text)


HANDLERS: dict[type[wire.Event], Callable[[Story, Any], None]] = {
    wire.NonFinite: nonfinite,
    wire.Culprit: origin,
    wire.Sanitized: sanitized,
    wire.HealthCheck: health,
    wire.Validation: validation,
    wire.Checkpoint: checkpoint,
    wire.CommandUpdate: command,
    wire.Lifecycle: lifecycle,
    wire.Notice: notice,
}

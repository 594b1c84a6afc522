"""The incidents of a run of several ranks: each rank's own story, told as one.

Records of different ranks come in any order, so that what one of them says can heal or prove nothing of another's. What
all ranks see alike, such as an all-reduced gradient, is told once, by the first of them.
"""

from collections.abc import Iterable, Sequence

import msgspec

from trainvitals import wire
from trainvitals_server.incidents import sentences
from trainvitals_server.incidents.building import REACH, build
from trainvitals_server.incidents.incident import Incident, Link

Told = tuple[int, wire.Event]  # rank, event
VAGUE = ("elsewhere", "unknown", "loss_scale")  # origins that another rank may know better


def build_ranks(told: Sequence[Told]) -> list[Incident]:
    """The incidents of all ranks, oldest first. `told` holds each rank's events in the order of their sequence."""
    passing = [(rank, event) for rank, event in told if isinstance(event, wire.NonFinite) and event.passing]
    culprits = [(rank, event) for rank, event in told if isinstance(event, wire.Culprit) and event.place not in VAGUE]
    found: list[Incident] = []
    for incident in sorted(_of_each_rank(told), key=lambda one: (one.first_bad_step, one.rank)):
        if not any(_is_told_by(incident, other) for other in found):
            found.append(_traced(_explained(incident, passing), culprits))
    return found


def _of_each_rank(told: Sequence[Told]) -> Iterable[Incident]:
    for rank in sorted({rank for rank, _ in told}):
        for one in build([event for by, event in told if by == rank]):
            yield _on_rank(one, rank) if rank else one


def _on_rank(incident: Incident, rank: int) -> Incident:
    first = msgspec.structs.replace(incident.chain[0], text=on_rank(rank, incident.chain[0].text))
    return msgspec.structs.replace(incident, rank=rank, chain=[first, *incident.chain[1:]])


def _is_told_by(incident: Incident, other: Incident) -> bool:
    """Whether an incident of another rank, which began no later and is not over before, tells the same. Statistics are
    a rank's own, unless the same layers broke at once, as they do where they are gathered."""
    if incident.rank == other.rank or (incident.open and not other.open):
        return False
    within = other.open or incident.first_bad_step <= other.last_step
    same = (incident.first_bad_step, incident.layers) == (other.first_bad_step, other.layers)
    return within and (incident.channels is None or same)


def _traced(incident: Incident, culprits: Sequence[tuple[int, wire.Culprit]]) -> Incident:
    """With the origin that another rank found, where its own replay found none: it had another batch."""
    since = incident.first_bad_step
    near = [(rank, one) for rank, one in culprits if rank != incident.rank and 0 <= since - one.step <= REACH]
    if not near or incident.origin not in (None, *VAGUE):
        return incident
    rank, one = max(near, key=lambda pair: (pair[1].step, -pair[0]))
    layer = one.layer or None
    link = Link(step=one.step, time=one.time, type="origin", layer=layer, text=on_rank(rank, sentences.origin(one)))
    return msgspec.structs.replace(incident, origin=one.place, origin_layer=layer, chain=[link, *incident.chain])


def on_rank(rank: int, text: str) -> str:
    """A sentence about one rank."""
    return f"On rank {rank}: {text}"


def _explained(incident: Incident, passing: Sequence[tuple[int, wire.NonFinite]]) -> Incident:
    """With what had broken on other ranks just before, and was gone at their next forward."""
    since = incident.first_bad_step
    near = {rank: one for rank, one in reversed(passing) if rank != incident.rank and 0 <= since - one.step <= REACH}
    links = [
        Link(
            step=one.step,
            time=one.time,
            type="nonfinite",
            layer=one.layer,
            text=on_rank(rank, sentences.broke([one])),
        )
        for rank, one in sorted(near.items())
    ]
    return msgspec.structs.replace(incident, chain=[*links, *incident.chain]) if links else incident

"""What a run's record lacks, and why: gaps, and records that were set aside."""

from collections.abc import Iterable, Sequence
from typing import Any

from trainvitals import wire

NAMED = 8  # reasons
LONGEST = 300  # characters of a reason


def lost(gaps: Sequence[tuple[int, wire.Gap]]) -> dict[str, Any]:
    """How many records were lost in how many gaps; under `reasons` the same for each reason, the most records first,
    with the first and last step that are known."""
    by_reason: dict[str, list[tuple[int, wire.Gap]]] = {}
    for step, gap in gaps:
        by_reason.setdefault(gap.reason[:LONGEST], []).append((step, gap))
    reasons = [_told(reason, some) for reason, some in by_reason.items()]
    reasons.sort(key=lambda one: -int(one["records"]))
    return {"records": sum(gap.count for _, gap in gaps), "gaps": len(gaps), "reasons": reasons[:NAMED]}


def _told(reason: str, some: Sequence[tuple[int, wire.Gap]]) -> dict[str, Any]:
    ends = [end for step, gap in some for end in (step, gap.first_step, gap.last_step) if end is not None]
    records = sum(gap.count for _, gap in some)
    return {"reason": reason, "records": records, "gaps": len(some), "from": min(ends), "to": max(ends)}


def set_aside(reasons: Iterable[tuple[str, int]]) -> dict[str, Any]:
    """How many records can never be read, and why; `reasons` are those and how often each came."""
    counted = sorted(reasons, key=lambda one: -one[1])
    named = [{"reason": reason[:LONGEST], "count": count} for reason, count in counted[:NAMED]]
    return {"quarantined": sum(count for _, count in counted), "set_aside": named}

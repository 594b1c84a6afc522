"""The ranks of a run: how each of its processes is, and what is to be said where they are not all well."""

from collections import Counter
from collections.abc import Sequence, Set
from typing import Any

NAMED = 8  # ranks named where many are in trouble


def state_of(row: Any, connected: bool) -> str:
    """A producer's state: how it said that it ended, or `lost` where its process is known to be gone; else `live`
    while it is connected, else `silent`: it may be gone, or only out of reach."""
    return str(row["state"] or ("live" if connected else "silent"))


def describe(rows: Sequence[Any], connected: Set[int]) -> dict[str, Any]:
    """A run's ranks as its summary shows them: how many there are, have ever come, and are in each state; and those
    that failed, died without a word, or have fallen silent while others go on, with the step they had come to. `rows`
    are the newest producers of each rank."""
    states = {row["rank"]: state_of(row, row["id"] in connected) for row in rows}
    going = "live" in states.values()
    bad = ("failed", "lost", "silent") if going else ("failed", "lost")
    troubled = [row for row in rows if states[row["rank"]] in bad]
    return {
        "size": max([row["world_size"] for row in rows], default=1),
        "seen": len(rows),
        "states": dict(Counter(states.values())),
        "troubled": [
            {"rank": row["rank"], "state": states[row["rank"]], "step": row["last_step"], "reason": row["reason"]}
            for row in troubled[:NAMED]
        ],
    }


def failure(ranks: dict[str, Any]) -> str:
    """One sentence about the first rank but 0 that failed, whose own end is the run's, or whose process died while
    others go on; "" where none did."""
    bad = ("failed", "lost") if ranks["states"].get("live") else ("failed",)
    failed = [one for one in ranks["troubled"] if one["state"] in bad and one["rank"]]
    if not failed:
        return ""
    first = failed[0]
    when = "before its first step" if first["step"] is None else f"at step {first['step']:,}"
    reason = f": {first['reason']}" if first["reason"] else ""
    more = f" (and {len(failed) - 1} more ranks)" if len(failed) > 1 else ""
    what = "was lost" if first["state"] == "lost" else "failed"
    return f"rank {first['rank']} {what} {when}{reason}{more}"

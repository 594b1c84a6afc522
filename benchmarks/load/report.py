"""What is made of the figures: tables in Markdown, and whether the goals are met."""

from collections.abc import Iterable, Mapping
from typing import Any

from cost.report import table

Figures = Mapping[str, Any]

TITLES = {
    "few": "4 trainers, batches of 16 steps",
    "large": "4 trainers, the largest batches (150 steps)",
    "many": "1,000 trainers, a step per second each",
}
POINTS, ACK = 3e6, 1000.0  # per second; milliseconds

METHOD = """\
One server process (`trainvitals serve`), fresh for each load, its database on the machine's disk; the load in processes
of its own on the same cores, over real websockets on the loopback interface. Each step is a frame of 400 values as a
mid-sized convolutional network under fp16 has them: norms of 100 gradients, seven statistics of 40 BatchNorms, headroom
of 12 inputs every 20th step, eight numbers of the run. All of them are stored, judged by every rule, committed with
`synchronous=FULL`, and only then acknowledged; a page follows one of the runs all the while.

- *Ack*: from the step to its acknowledgement, waiting for a place among the four batches in flight included. Of `many`
  over the steady part; the thousand connect and declare their columns at the same moment, which is told apart.
- *Live*: from the step to the arrival of its frame at a browser's socket.
- *Server CPU*: user and system time of the whole process, which other work on the machine disturbs less than the clock.
- *Bytes per point*: database and log, with rules' states, series and layouts, after so short a run; the log alone may
  have 16 MiB and more, which is most of it where little was stored.
- The peers write the same values with no network between, to the same disk, and are closed. What helper processes of
  theirs use (wandb has one) is not in the CPU time."""


def loads(found: Mapping[str, Figures]) -> str:
    """A row per load."""
    head = ("", "points/s", "steps/s", "ack p50", "p95", "p99", "max, ms", "live p50", "p95", "p99, ms")
    rows = [
        [TITLES[name], _millions(one["points_per_s"]), f"{one['steps_per_s']:,.0f}"]
        + [_at(one["ack"], at) for at in ("p50", "p95", "p99", "max")]
        + [_at(one["live"], at) for at in ("p50", "p95", "p99")]
        for name, one in found.items()
    ]
    return table(head, rows)


def uses(found: Mapping[str, Figures]) -> str:
    """What the server needs for it."""
    head = (
        "",
        "CPU, cores",
        "CPU s per million points",
        "µs per step",
        "peak MiB",
        "bytes/point",
        "`/healthz` p50",
        "p99, ms",
    )
    rows = [
        [
            TITLES[name],
            f"{one['cpu_share']:.2f}",
            f"{one['cpu_per_million']:.3f}",
            f"{one['cpu_per_thousand_steps'] * 1e3:.0f}",
            f"{one['peak'] / 2**20:.0f}",
            f"{one['bytes_per_point']:.1f}",
            _at(one["healthz"], "p50"),
            _at(one["healthz"], "p99"),
        ]
        for name, one in found.items()
    ]
    return table(head, rows)


def storm(one: Figures) -> str:
    """How a thousand trainers come in at the same moment."""
    head = ("1,000 trainers at once", "p50", "p95", "p99", "max, ms")
    rows = [
        [title, *(_at(one[key], at) for at in ("p50", "p95", "p99", "max"))]
        for title, key in (("connect to welcome", "welcome"), ("acks until it is steady", "ack_early"))
    ]
    return table(head, rows)


def peers(found: Mapping[str, Figures], titles: Mapping[str, str], ours: Figures | None) -> str:
    """A row per peer, ours first."""
    head = ("", "points/s", "CPU s per million points", "bytes/point")
    rows = []
    if ours is not None:
        title = f"trainvitals, {TITLES['few']}, through websockets"
        rows = [
            [title, _millions(ours["points_per_s"]), f"{ours['cpu_per_million']:.3f}", f"{ours['bytes_per_point']:.1f}"]
        ]
    for name, one in found.items():
        told = [_millions(one["points_per_s"]), f"{one['cpu_per_million']:.3f}", f"{one['bytes']:.1f}"]
        rows.append([titles[name], *told])
    rows += [[title, "**not measured**", "", ""] for name, title in titles.items() if name not in found]
    return table(head, rows)


def goals(found: Mapping[str, Figures]) -> str:
    """Each goal, what came, and whether it is met."""
    rows = []
    for name in ("few", "large"):
        if name in found:
            value = found[name]["points_per_s"]
            rows.append([TITLES[name], f"≥ {_millions(POINTS)} points/s", _millions(value), _met(value >= POINTS)])
    if "many" in found:
        value = found["many"]["ack"].get("p99", float("inf"))
        rows.append([TITLES["many"], f"ack p99 ≤ {ACK:,.0f} ms", f"{value:,.0f} ms", _met(value <= ACK)])
    return table(("", "goal", "measured", ""), rows)


def document(parts: Iterable[tuple[str, str]]) -> str:
    """Headed parts, one after another."""
    return "\n\n".join(f"## {title}\n\n{text}" for title, text in parts)


def _met(met: bool) -> str:
    return "met" if met else "**not met**"


def _millions(value: float) -> str:
    return f"{value / 1e6:.2f} M"


def _at(spread: Mapping[str, float], name: str) -> str:
    return f"{spread[name]:,.0f}" if name in spread else "-"

"""What is made of the figures: tables in Markdown, and whether the goals are met."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Figures = Mapping[str, Any]

THREAD = 1.25  # times the floor, on ResNet-50
EXTRA = 300e-6  # seconds above the floor, on the network of many layers
PROCESS = 1.5  # times the floor
MEMORY = 8 << 20  # bytes
LINEAR = 1.5  # times the cost per parameter of the smallest network
CUDA = 0.005  # of a step


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown; the first column to the left, the others to the right."""
    head = list(head)
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def milliseconds(seconds: float) -> str:
    """With a hundredth, which is about what can be told apart."""
    return f"{round(seconds * 1e3, 2) + 0.0:.2f}"  # no -0.00


def costs(figures: Mapping[str, Figures], absent: Iterable[str]) -> str:
    """One network: a row per way."""
    floor = figures["floor"]["floor"]
    rows = [_row(name, one, floor) for name, one in figures.items()]
    rows += [[name, *["**not measured**"], *[""] * 5] for name in absent]
    head = (
        "added per step, ms",
        "training thread",
        "x floor",
        "other threads",
        "process, x floor",
        "helpers",
        "of a step",
    )
    return table(head, rows)


def _row(name: str, one: Figures, floor: float) -> list[str]:
    """`floor` is the one measured beside this way, in the same process, where there is one."""
    beside = one["floor"] or floor
    thread = milliseconds(one["thread"])
    if not one["direct"]:
        thread = f"{thread} ± {milliseconds(one['difference_error'])}"
    whole = one["thread"] + one["threads"]
    return [
        name,
        thread,
        f"{one['thread'] / beside:.2f}",
        milliseconds(one["threads"]),
        f"{whole / beside:.2f}",
        milliseconds(max(one["processes"], 0.0)),
        f"{(whole + max(one['processes'], 0.0)) / one['step']:.1%}",
    ]


def growth(figures: Iterable[Figures]) -> str:
    """Cost per parameter tensor, by their number."""
    rows = [
        [
            f"{one['parameters']:,}",
            *(f"{one[key] / one['parameters'] * 1e6:.2f}" for key in ("floor", "thread", "threads")),
        ]
        for one in figures
    ]
    return table(("parameter tensors", "floor, µs each", "training thread, µs each", "other threads, µs each"), rows)


def memories(figures: Mapping[str, Figures]) -> str:
    """One row per network."""
    rows = [
        [title, *(f"{one[key] / 2**20:.1f}" for key in ("added", "least", "most", "statistics")), _whole(one["plain"])]
        for title, one in figures.items()
    ]
    return table(("MiB", "added", "least", "most", "running statistics, once", "resident set without"), rows)


def _whole(size: float) -> str:
    return f"{size / 2**20:.0f}"


def goals(
    resnet: Mapping[str, Figures],
    many: Mapping[str, Figures],
    grown: Sequence[Figures],
    memory: Mapping[str, Figures],
    cuda: Figures | None,
) -> str:
    """Each goal, what came, and whether it is met."""
    rows = []
    for name in (name for name in resnet if name.startswith("trainvitals")):
        one = resnet[name]
        rows.append(_goal(f"ResNet-50, {name}: training thread", one["thread"] / one["floor"], THREAD, _times))
        rows.append(_goal(f"ResNet-50, {name}: process", _process(one), PROCESS, _times))
    for name in (name for name in many if name.startswith("trainvitals")):
        one = many[name]
        extra = one["thread"] - one["floor"]
        rows.append(_goal(f"many layers, {name}: training thread above the floor", extra, EXTRA, _micro))
        rows.append(_goal(f"many layers, {name}: process", _process(one), PROCESS, _times))
    each = [one["thread"] / one["parameters"] for one in grown]
    if each:
        rows.append(
            _goal("10,000 parameter tensors: cost of each, x that of 1,000", each[-1] / each[0], LINEAR, _times)
        )
    for title, held in memory.items():
        rows.append(_goal(f"{title}: memory", held["added"], MEMORY, lambda value: f"{value / 2**20:.1f} MiB"))
    if cuda is None:
        rows += [["CUDA: synchronisations", "0", "no CUDA device", "not measured"]]
        rows += [["CUDA: added to a step", f"≤ {CUDA:.1%}", "no CUDA device", "not measured"]]
    else:
        rows.append(_goal("CUDA: synchronisations", len(cuda["faults"]), 0, str))
        rows.append(_goal("CUDA: added to a step", cuda["added"] / cuda["step"], CUDA, lambda value: f"{value:.2%}"))
    return table(("", "goal", "measured", ""), rows)


def _process(one: Figures) -> float:
    ratio: float = (one["thread"] + one["threads"]) / one["floor"]
    return ratio


def _goal(what: str, value: float, limit: float, show: Callable[[Any], str]) -> list[str]:
    return [what, f"≤ {show(limit)}", show(value), "met" if value <= limit else "**not met**"]


def _times(value: float) -> str:
    return f"{value:.2f} x"


def _micro(value: float) -> str:
    return f"{value * 1e6:.0f} µs"

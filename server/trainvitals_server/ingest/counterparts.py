"""Layouts that go together: what each rank of one launch tells of the same series."""

from collections.abc import Iterable
from typing import NamedTuple

from trainvitals import wire
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.store import runs, series

Key = tuple[str, str, str]  # layer, kind, statistic without its ending


class Group(NamedTuple):
    """One layout of each rank, by rank, and rank 0's producer."""

    leader: runs.Producer
    layouts: list[series.Layout]


def find(tx: Transaction, who: runs.Producer, ending: str) -> list[Group] | None:
    """The layouts with such statistics that go together among the ranks of the launch of `who`; None until every rank
    has declared one."""
    ranks = runs.of_launch(tx.connection, who.run, who.launch) if who.launch else [who]
    if [one.rank for one in ranks] != list(range(who.world_size)):
        return None
    told = [_layouts(tx, one, ending) for one in ranks]
    if not all(told):
        return None
    return [Group(ranks[0], akin) for layout in told[0] if (akin := _counterparts(layout, told, ending))]


def has(layout: series.Layout, ending: str) -> bool:
    """Whether any statistic of this layout has this ending."""
    return any(one is not None and one.stat.endswith(ending) for one in layout.declared)


def columns(layout: series.Layout, ending: str) -> list[tuple[int, wire.Series]]:
    """The columns that have it, with their places."""
    found = enumerate(layout.declared)
    return [(place, one) for place, one in found if one is not None and one.stat.endswith(ending)]


def key(one: wire.Series, ending: str) -> Key:
    """What a series tells of, by the name that it has without the ending."""
    return one.layer, one.kind, one.stat.removesuffix(ending)


def _layouts(tx: Transaction, producer: runs.Producer, ending: str) -> list[series.Layout]:
    layouts = series.layouts(tx.connection, [producer.id])
    return [one for one in layouts if one.layout < series.OWN and one.whole and has(one, ending)]


def _counterparts(layout: series.Layout, told: Iterable[list[series.Layout]], ending: str) -> list[series.Layout]:
    """Of each rank the layout that goes with this one of rank 0's; none unless all have come. Layouts that share a
    series follow one another as layers come and go, on all ranks alike: the n-th goes with the n-th."""
    found = [_akin(layout, them, ending) for them in told]
    place = [one.id for one in found[0]].index(layout.id)
    return [them[place] for them in found] if all(place < len(them) for them in found) else []


def _akin(layout: series.Layout, others: Iterable[series.Layout], ending: str) -> list[series.Layout]:
    """Those of the others that have any of its series, in the order in which they were declared."""
    names = {key(one, ending) for _, one in columns(layout, ending)}
    return [other for other in others if names & {key(one, ending) for _, one in columns(other, ending)}]

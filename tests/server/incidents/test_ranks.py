"""The incidents of several ranks, told as one."""

from trainvitals import wire
from trainvitals_server.incidents import Incident, build_ranks
from trainvitals_server.incidents.ranks import Told


def broke(step: int, layer: str = "bn", signal: str = "running_statistics", **rest: bool) -> wire.NonFinite:
    count = 3 if signal == "running_statistics" else -1
    return wire.NonFinite(
        step=step, time=float(step), layer=layer, signal=signal, kind="nan", count=count, total=16, **rest
    )


def repaired(step: int, layer: str = "bn") -> wire.Sanitized:
    repair = wire.Repair(layer=layer, channels=3, total=16, strategy="restore", buffers=["running_mean"])
    return wire.Sanitized(step=step, time=float(step), origin="auto", strategy="restore", repairs=[repair])


def validated(step: int) -> wire.Validation:
    return wire.Validation(step=step, time=float(step), valid=8, errors=0, nonfinite=0, total=8)


def told(*some: Told) -> list[tuple[int, int, bool]]:
    """First bad step, rank and whether it is open, of each incident."""
    return [(one.first_bad_step, one.rank, one.open) for one in build_ranks(some)]


def only(*some: Told) -> Incident:
    (found,) = build_ranks(some)
    return found


def test_another_rank_heals_and_proves_nothing() -> None:
    """Its good validation, which may come late, says nothing of what broke here; nor does its repair."""
    late = (1, broke(8, "other")), (1, repaired(8, "other")), (1, validated(9))
    assert told((0, broke(10)), *late) == [(8, 1, False), (10, 0, True)]


def test_statistics_are_each_ranks_own() -> None:
    """Where nothing is broadcast, one rank's break is its own incident, which says whose it is."""
    found = only((0, validated(4)), (1, broke(7)), (1, repaired(7)))
    assert (found.rank, found.first_bad_layer, found.open) == (1, "bn", False)
    assert found.chain[0].text.startswith("On rank 1: ")


def test_what_all_ranks_see_is_told_once() -> None:
    """An all-reduced gradient, and gathered statistics that broke everywhere at once; the first rank tells it."""
    gradient = [(rank, broke(5, "w", "gradient")) for rank in (2, 0, 1)]
    assert told(*gradient) == [(5, 0, True)]
    gathered = [(rank, event) for rank in (1, 0) for event in (broke(9), repaired(9))]
    assert told(*gathered) == [(9, 0, False)]


def test_one_that_is_still_open_is_not_told_by_one_that_is_over() -> None:
    """The rank whose repair did not come stays visible."""
    assert told((0, broke(9)), (0, repaired(9)), (1, broke(9))) == [(9, 0, False), (9, 1, True)]


def test_what_passes_is_no_incident() -> None:
    """A rank that follows has rank 0's statistics again at the next forward."""
    assert told((1, broke(5, passing=True))) == []


def test_what_passed_just_before_explains_what_stayed() -> None:
    """One rank's batch broke its own statistics for a step, and through the gradients everybody's weights."""
    found = only((0, broke(5, "w", "gradient")), (3, broke(5, passing=True)), (2, broke(100, passing=True)))
    assert found.chain[0].text.startswith("On rank 3: The running statistics of bn")
    assert [link.text for link in found.chain if "rank 2" in link.text] == []

"""The parts of a running server: what they hold in memory does not grow with who has been there."""

import gc
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, MethodType, ModuleType

import pytest

from served import Served, frame, layout, until
from trainvitals import wire
from trainvitals_server.rules import block
from trainvitals_server.runs import pulse

COLUMNS = [("a", wire.NORM, wire.VAR_MAX), ("b", wire.NORM, wire.VAR_MAX)]
CODE = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType, CodeType, FrameType)
NOTHING = (*CODE, weakref.ref)  # what is not followed: code, and the last 200 cursors that each connection refers to
FEW, MANY = 5, 30  # trainers


@pytest.fixture
def served(private_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A server that waits a moment for who has gone, instead of a minute."""
    monkeypatch.setattr(pulse, "GONE_SECONDS", 0.1)
    with Served(private_home) as server:
        yield server


def test_trainers_that_have_gone_leave_nothing_in_memory(served: Served) -> None:
    """Thirty that broke off, half of them processes of one run, weigh no more than five: not in any list, table or
    queue, whoever keeps it."""
    pass_by(served, "few", FEW)
    before = held(served)
    pass_by(served, "many", MANY)
    more = held(served) - before
    assert {kind: count for kind, count in more.items() if count >= MANY // 2} == {}


def pass_by(served: Served, name: str, count: int) -> None:
    """So many trainers that come, tell something, and break off, until nobody waits for them any more."""
    parts = served.service.parts
    for place in range(count):
        run = name if place % 2 else f"{name}-{place}"
        with served.trainer(run, f"{name}-{place}") as trainer:
            trainer.hello()
            events = [wire.Notice(step=step, time=1e6, code="n", text="x") for step in range(3)]
            trainer.store(layout(*COLUMNS), *[frame(step, [1.0, float("nan")]) for step in range(3)], *events)
    until(lambda: not (len(parts.connections) or parts.books._sheets or parts.pulse._beats), 60)


def held(served: Served) -> Counter[str]:
    """How many objects of each type the parts hold, however deep, and the plans of the rules."""
    parts, seen, count = served.service.parts, set[int](), Counter[str]()
    gc.collect()
    left: list[object] = [value for name, value in vars(parts).items() if name not in ("loop", "settings", "clock")]
    left.append(block._plans)
    while left:
        one = left.pop()
        if id(one) in seen or isinstance(one, NOTHING):
            continue
        seen.add(id(one))
        count[type(one).__qualname__] += 1
        left += gc.get_referents(one)
    return count

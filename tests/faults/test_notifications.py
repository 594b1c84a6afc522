"""Places that notifications go to, and that do not take them."""

import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from served import frame, layout, until
from sink import receiving
from speech import speaking
from trainvitals import wire
from ward import Ward

Enter = Callable[..., None]
TRIES = 8
LOCATION = "/elsewhere"


@pytest.mark.parametrize("patience", [0.2, pytest.param(None, marks=pytest.mark.chaos)])
def test_sinks_that_fail(
    make_ward: Callable[..., Ward], enter: Enter, monkeypatch: pytest.MonkeyPatch, patience: float | None
) -> None:
    """One answers 500, one never, one points elsewhere: each is tried at most eight times under one id, and records
    are taken in as ever. In chaos with the real pauses, for as long as four tries take."""
    with ExitStack() as stack:
        sinks = [stack.enter_context(receiving(answers=answers)) for answers in ([500], ["hang"], [302])]
        sinks[2].location = LOCATION
        monkeypatch.setenv("TRAINVITALS_ALERT_URLS", " ".join(sink.url("http") for sink in sinks))
        ward = make_ward(plants=() if patience is None else (f"impatient={patience}",))
        ward.program.start()
        training = ward.train().under_way()
        name = "notification sink 500 / hangs / redirects" + ("" if patience else ", at its real pace")
        with ward.fault(name, "≤ 8 tries, ingest unaffected, one stable event id") as row:
            with speaking(ward.program, "broken") as trainer:
                trainer.hello(next=2)
                columns = [("bn", wire.NORM, stat) for stat in wire.NORM_STATS]
                bad = [0.0, 0.0, 1.0, float("inf"), 3.0, 0.0]
                trainer.store(layout(*columns), frame(5, bad, time=time.time()))
            goal = TRIES if patience else 4
            until(lambda: all(len(sink.received) >= goal for sink in sinks), 120)
            training.go_on(1.0)
        row.note = f"{max(len(sink.received) for sink in sinks)} tries"
        enter(row)
        assert [len(set(sink.ids)) for sink in sinks] == [1, 1, 1]
        assert {sink.ids[0] for sink in sinks} == {sinks[0].ids[0]}
        assert all(LOCATION not in path for path in sinks[2].paths)
        if patience:
            assert [len(sink.received) for sink in sinks] == [TRIES] * 3

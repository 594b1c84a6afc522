"""What memory knows of the runs: who may look while it changes, and what it forgets."""

import threading

from trainvitals_server.changes import Changes
from trainvitals_server.runs.pulse import Pulse


def told(run: str, state: str | None) -> Changes:
    """What a hello publishes."""
    changes = Changes()
    changes[run].state = state
    return changes


def test_a_run_that_had_ended_before_the_server_came_up_stays_ended() -> None:
    """Its trainer may come back for a word, and is forgotten when it has left."""
    pulse = Pulse()
    pulse.note(told("run", "finished"), 0.0)
    pulse.connect("run", 1, 0.0)
    assert pulse.connected("run")
    assert list(pulse.signals(10_000.0)) == []
    pulse.disconnect("run", 1, 10_000.0)
    assert list(pulse.signals(20_000.0)) == []
    pulse.note(told("run", None), 20_000.0)
    assert list(pulse.signals(30_000.0)) == []
    assert not pulse.connected("run")


def test_who_brings_what_a_dead_process_left_is_no_contact() -> None:
    """Unless a living one is there too."""
    pulse = Pulse([("run", "lost")])
    pulse.connect("run", 1, 0.0, ended=True)
    assert list(pulse.signals(1.0)) == []
    pulse.connect("run", 2, 1.0)
    assert [one.signal for one in pulse.signals(2.0)] == ["contact"]
    pulse.connect("run", 1, 2.0, ended=True)
    assert [one.signal for one in pulse.signals(3.0)] == ["contact"]


def test_a_lost_run_is_forgotten_and_known_again_when_it_comes_back() -> None:
    """Thousands of killed trainings cost nothing; whoever comes back says hello, which tells that it was lost."""
    pulse = Pulse([("run", "live")], 0.0)
    (said,) = pulse.signals(100.0)
    assert said.signal == "gone"
    pulse.note(told("run", "lost"), 100.0)
    assert list(pulse.signals(101.0)) == []
    assert not pulse._beats
    pulse.note(told("run", "lost"), 200.0)
    pulse.connect("run", 1, 200.0)
    (said,) = pulse.signals(201.0)
    assert said.signal == "contact"


def test_another_thread_may_ask_while_runs_come_and_go() -> None:
    """As summaries do."""
    pulse = Pulse()
    over = threading.Event()
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            while not over.is_set():
                pulse.connected_producers()
                pulse.connected_runs()
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    for place in range(5000):
        pulse.connect(f"run-{place % 500}", place, 0.0)
    over.set()
    thread.join(10)
    assert errors == []

"""Where training hangs, under a clock that the test turns, and in a thread that really hangs."""

import threading
from pathlib import Path

import pytest
import torch

import trainvitals
from loops import batches, of_type, small_net, spooled, train_fp32
from trainvitals import hanging, wire
from trainvitals.hanging import Hanging, Progress, stack_of


class Watched:
    """Progress by hand."""

    def __init__(self, seconds_per_step: float = 1.0) -> None:
        self.told: list[tuple[str, str]] = []
        self.hanging = Hanging(lambda code, text: self.told.append((code, text)))
        self.each = seconds_per_step
        self.now = 0.0
        self.progress = Progress(0, None, 0, threading.get_ident())

    def train(self, seconds: float) -> None:
        """Steps for so long, with a look every 5 s."""
        until = self.now + seconds
        while self.now < until:
            self.now += 5
            done = int(self.now / self.each)
            self.progress = self.progress._replace(steps=done, ended=done * self.each, step=done)
            self.hanging.look(self.progress, self.now)

    def wait(self, seconds: float, **changed: object) -> None:
        """Nothing ends."""
        self.progress = self.progress._replace(**changed)
        until = self.now + seconds
        while self.now < until:
            self.now += 5
            self.hanging.look(self.progress, self.now)

    def codes(self) -> list[str]:
        return [code for code, _ in self.told]


def test_a_hang_is_told_once_with_its_stack() -> None:
    """Half a minute after the last step, and again only after another step."""
    watched = Watched()
    watched.train(100)
    watched.wait(30)
    assert watched.told == []
    watched.wait(600)
    assert watched.codes() == ["hung"]
    first, _, stack = watched.told[0][1].partition("\n")
    assert first == "no step ended for 35 s after step 100"
    assert "test_hanging.py" in stack
    watched.train(50)
    watched.wait(100)
    assert watched.codes() == ["hung", "hung"]


def test_slow_steps_are_no_hang() -> None:
    """Ten median steps; before the first step has ended nothing is known."""
    watched = Watched(seconds_per_step=20)
    watched.train(200)
    watched.wait(195)
    assert watched.told == []
    watched.wait(20)
    assert watched.codes() == ["hung"]
    early = Watched()
    early.wait(10_000)
    assert early.told == []


def test_a_process_that_stood_still_does_not_hang() -> None:
    """Stopped by a signal, or with its container: the look that comes late tells nothing of the training, the ones
    after it do."""
    watched = Watched()
    watched.train(100)
    watched.wait(10)
    watched.now += 3600
    watched.wait(20)
    assert watched.told == []
    watched.wait(10)
    assert watched.codes() == ["hung"]
    assert watched.told[0][1].startswith("no step ended for 35 s after step 100")


def test_a_process_that_stood_still_right_after_a_step_does_not_hang() -> None:
    """The step was before."""
    watched = Watched()
    watched.train(100)
    watched.now += 3600
    watched.wait(30, steps=101, ended=101.0, step=101)
    assert watched.told == []
    watched.wait(10)
    assert watched.codes() == ["hung"]


def test_a_long_validation_and_a_long_save_say_so_and_are_no_hang() -> None:
    """In time, once; unless nothing of it ends for ten minutes."""
    watched = Watched()
    watched.train(100)
    watched.wait(20, doing="validation began at step 100")
    assert watched.told == [("busy", "validation began at step 100; no step ends until it is over")]
    for batch in range(300):
        watched.wait(60, beside=batch + 1)
    assert watched.codes() == ["busy"]
    watched.wait(700)
    assert watched.codes() == ["busy", "hung"]
    watched.wait(20, doing="a save began at step 100")
    assert watched.codes() == ["busy", "hung", "busy"]
    watched.wait(20, doing="")
    assert watched.codes() == ["busy", "hung", "busy"]


def test_a_stack_is_bounded_and_names_no_values() -> None:
    """The innermost frames of another thread."""
    inside, leave = threading.Event(), threading.Event()

    def deep(levels: int, value: str = "the secret") -> None:
        if levels:
            deep(levels - 1, value)
        else:
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=deep, args=(200,))
    thread.start()
    assert inside.wait(10)
    stack = stack_of(thread.ident or 0)
    leave.set()
    thread.join()
    assert stack.count("in deep") <= hanging.FRAMES
    assert "leave.wait(10)" in stack
    assert "the secret" not in stack
    assert stack_of(-1) == ""


def test_a_real_hang_is_in_the_spool(monkeypatch: pytest.MonkeyPatch, private_home: Path) -> None:
    """By the watch's own thread, which then goes away with it."""
    monkeypatch.setattr(hanging, "LOOK", 0.02)
    monkeypatch.setattr(hanging, "HUNG", 0.2)
    told = threading.Event()
    notify = trainvitals.Watch.notify
    monkeypatch.setattr(trainvitals.Watch, "notify", lambda self, code, text: (notify(self, code, text), told.set()))
    others = set(threading.enumerate())  # of watches that nobody closed, until they notice
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    watch = trainvitals.watch(model, optimizer, mode="offline")
    train_fp32(model, optimizer, batches(5))
    assert "trainvitals-lookout" in {one.name for one in set(threading.enumerate()) - others}
    assert told.wait(30)
    watch.close()
    assert watch.spool_path is not None
    (notice,) = of_type(spooled(watch.spool_path), wire.Notice)
    assert notice.code == "hung"
    assert "told.wait(30)" in notice.text
    assert set(threading.enumerate()) <= others

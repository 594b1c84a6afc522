"""What a killed trainer left, in the hands of the next one in the same directory; and how trainings end together."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import trainvitals
from child import child
from loops import of_type, small_net, spooled
from served import Served, until
from spools import frame, layout, left
from trainvitals import wire
from trainvitals.delivery import courier
from trainvitals.delivery.remains import take

SUPPORT = Path(__file__).parents[2] / "support"
PATIENCE = 120.0  # seconds; on a machine with other work even the start of an interpreter takes many
Keep = Callable[[trainvitals.Watch], trainvitals.Watch]
Make = Callable[..., trainvitals.Watch]
RECORDS = [layout(), *[frame(step) for step in range(20)]]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Served]:
    """A server with another directory than the trainer's, as on another machine."""
    with Served(tmp_path / "server") as server:
        yield server


@pytest.fixture
def keep() -> Iterator[Keep]:
    """Closes the watches it is given when the test ends, however it does, and waits until their threads are gone."""
    kept: list[trainvitals.Watch] = []

    def keep(watch: trainvitals.Watch) -> trainvitals.Watch:
        kept.append(watch)
        return watch

    yield keep
    for one in kept:
        one.close()
        producer = one._producer
        depots = [depot for depot in (producer._depot, *producer._retired) if depot is not None]
        for depot in depots:
            depot.courier.stop(0.0)
        until(lambda depots=depots: not any(depot.courier.running for depot in depots), PATIENCE)  # type: ignore[misc]


@pytest.fixture
def watch(elsewhere: Served, keep: Keep) -> Make:
    """Makes watches that speak to it."""
    token = elsewhere.headers("ingest")["Authorization"].removeprefix("Bearer ")

    def make(home: Path, **options: Any) -> trainvitals.Watch:
        model = small_net()
        optimizer = torch.optim.SGD(model.parameters(), 1e-3)
        return keep(trainvitals.watch(model, optimizer, server=elsewhere.url, token=token, directory=home, **options))

    return make


@contextmanager
def running(program: str, server: Served, **options: Any) -> Iterator["subprocess.Popen[str]"]:
    """A process that runs this program, with the server's address and token. It does not outlive a block that fails."""
    token = server.headers("ingest")["Authorization"].removeprefix("Bearer ")
    command = [sys.executable, "-c", program, server.url, token]
    with child(command, cwd=SUPPORT, **options) as process:
        yield process


def test_the_next_watch_delivers_what_a_killed_one_left(elsewhere: Served, private_home: Path, watch: Make) -> None:
    """Beside its own records, and under the dead one's id."""
    path = left(private_home, RECORDS)
    alive = watch(private_home, run_id="next")
    until(lambda: not path.exists(), PATIENCE)
    (producer,) = elsewhere.get("/api/runs/r")["producers"]
    assert (producer["producer"], producer["committed"]) == ("p", 20)
    alive.close()
    assert alive.spool_path is not None
    assert not alive.spool_path.exists()
    assert elsewhere.get("/api/runs/next")["state"] == "finished"


def test_closing_does_not_wait_for_what_others_left(elsewhere: Served, private_home: Path, watch: Make) -> None:
    """It stays for the next one, who loses nothing of it."""
    path = left(private_home, [layout(), *[frame(step) for step in range(30_000)]])
    alive = watch(private_home)
    until(lambda: elsewhere.ask("GET", "/api/runs/r").is_success, PATIENCE)
    started = time.monotonic()
    alive.close()
    assert time.monotonic() - started < 2 * courier.DRAIN
    assert path.exists()
    alive = watch(private_home)
    until(lambda: not path.exists(), PATIENCE)
    alive.close()
    assert elsewhere.get("/api/runs/r")["counts"]["frames"] == 30_000


def test_offline_nobody_looks_after_others(private_home: Path, tmp_path: Path, keep: Keep) -> None:
    """No connection is opened for anyone."""
    path = left(private_home, RECORDS)
    model = small_net()
    alive = keep(trainvitals.watch(model, mode="offline", directory=private_home))
    alive.close()
    assert path.exists()
    assert len(spooled(path)) == len(RECORDS)


def test_a_producer_that_is_followed_by_another_says_so(private_home: Path, keep: Keep) -> None:
    """Nobody takes it for one whose process was killed."""
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    alive = keep(trainvitals.watch(model, optimizer, mode="offline", directory=private_home))
    first = alive.spool_path
    for step in (0, 1, 0):
        model(torch.rand(2, 3, 8, 8)).sum().backward()
        optimizer.step()
        alive.step(step)
    alive.close()
    assert first is not None
    assert alive.spool_path != first
    assert [one.code for one in of_type(spooled(first), wire.Notice)][-1] == "superseded"


def test_what_an_earlier_producer_lost_stays_lost(private_home: Path, keep: Keep) -> None:
    """The watch counts for all of its producers, those that deliver no more included."""
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    alive = keep(trainvitals.watch(model, optimizer, mode="offline", directory=private_home))
    depot = alive._producer._depot
    assert depot is not None
    depot._outbox.limit = 0
    counts = []
    for step in (0, 1, 2, 3, 0, 1, 0, 1):
        model(torch.rand(2, 3, 8, 8)).sum().backward()
        optimizer.step()
        alive.step(step)
        if step == 0:
            until(lambda: all(not one.courier.running for one in alive._producer._retired[:-1]))
        counts.append(alive.dropped)
    alive.close()
    assert depot.dropped > 0
    assert counts == sorted(counts)
    assert alive.dropped == depot.dropped


def test_several_watches_end_in_the_time_of_one(elsewhere: Served, private_home: Path) -> None:
    """Five seconds in all, though the server reads nothing any more; a real process, stopped by SIGTERM."""
    program = """
import os, sys, time, torch, trainvitals
watches = []
for name in "abc":
    model = torch.nn.Linear(2, 2)
    watches.append(trainvitals.watch(model, name=name, run_id=name, server=sys.argv[1], token=sys.argv[2]))
deadline = time.monotonic() + 20
while not all(watch.state == "streaming" for watch in watches) and time.monotonic() < deadline:
    time.sleep(0.01)
print("ready", flush=True)
time.sleep(60)
"""
    with running(program, elsewhere, stdout=subprocess.PIPE) as trainer:
        assert trainer.stdout is not None
        assert trainer.stdout.readline() == "ready\n"
        elsewhere.service.parts.writer.submit(lambda tx: time.sleep(12))  # nothing is committed meanwhile
        started = time.monotonic()
        trainer.terminate()
        trainer.wait(PATIENCE)
        took = time.monotonic() - started
    assert trainer.returncode == -signal.SIGTERM
    assert 3 < took < 2 * courier.DRAIN  # one after another they would take three times its length
    assert all(list((private_home / "spool" / name).iterdir()) for name in "abc"), "what was not acked is kept"


def test_a_command_is_never_applied_twice(elsewhere: Served, private_home: Path, watch: Make) -> None:
    """The trainer is killed while it applies one: the next watch reports it unknown, and does nothing else about it."""
    program = """
import os, signal, sys, torch, trainvitals
from trainvitals.repair.keeper import Keeper
real = Keeper.repair
def repair(self, norms, strategy, origin, *rest, **named):
    if origin == "command":
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, norms, strategy, origin, *rest, **named)
Keeper.repair = repair
model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
optimizer = torch.optim.SGD(model.parameters(), 1e-3)
watch = trainvitals.watch(model, optimizer, run_id="r", server=sys.argv[1], token=sys.argv[2])
for step in range(10**6):
    optimizer.zero_grad()
    model(torch.rand(3, 4)).sum().backward()
    optimizer.step()
    watch.step(step)
"""
    with running(program, elsewhere) as trainer:
        until(lambda: elsewhere.ask("GET", "/api/runs/r").is_success, PATIENCE)
        until(lambda: elsewhere.get("/api/runs/r")["counts"]["frames"], PATIENCE)
        body = {"action": "sanitize", "key": "k"}
        asked = elsewhere.ask("POST", "/api/runs/r/commands", "control", json=body).json()
        assert trainer.wait(PATIENCE) == -signal.SIGKILL
    (path,) = (private_home / "spool/r").iterdir()
    assert asked["id"] in (path / "journal").read_text()
    alive = watch(private_home, run_id="next")
    until(lambda: not path.exists(), PATIENCE)
    alive.close()
    command = elsewhere.get(f"/api/runs/r/commands/{asked['id']}")
    assert command["state"] == "unknown"
    assert "will not be applied again" in command["reason"]
    assert elsewhere.get("/api/runs/r/events", type="sanitized")["events"] == []


def test_a_forked_worker_leaves_the_trainers_lock_alone(private_home: Path, watch: Make) -> None:
    """A worker that ends, or lives on, changes nothing for the trainer."""
    alive = watch(private_home, run_id="r")
    if (worker := os.fork()) == 0:
        os._exit(0)
    os.waitpid(worker, 0)
    assert alive.spool_path is not None
    assert take(alive.spool_path) is None
    alive.close()


def test_the_watch_tells_how_many_records_were_refused(private_home: Path, watch: Make) -> None:
    """And where they are."""
    alive = watch(private_home, run_id="r")
    assert alive.quarantined == 0
    alive._producer.put(frame(0))  # of a layout that was never declared
    until(lambda: alive.quarantined == 1)
    alive.close()
    assert alive.spool_path is not None
    assert [file.name for file in alive.spool_path.iterdir()] == ["quarantine"]

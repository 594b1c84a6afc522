"""A command's way: asked, sent, reported back, and everything that can come in between."""

import time
from typing import Any

import pytest

from served import Served, Speaker, frame, layout, until
from trainvitals import wire
from trainvitals_server.commands import states
from trainvitals_server.store import journal

PATH = "/api/runs/run-1/commands"


def order(served: Served, **body: Any) -> Any:
    answer = served.ask("POST", PATH, "control", json={"action": "sanitize", **body})
    assert answer.status_code == 202, answer.text
    return answer.json()


def report(trainer: Speaker, command: wire.Command, state: wire.CommandState, step: int, **rest: Any) -> None:
    update = wire.CommandUpdate(step=step, time=1e6 + step, id=command.id, state=state, **rest)
    trainer.store(update)


def is_command(text: str) -> str | None:
    return text if '"type":"command"' in text else None


def shown(served: Served, command: wire.Command) -> Any:
    return served.get(f"{PATH}/{command.id}")


def test_the_ladder_is_climbed_rung_by_rung(served: Served) -> None:
    """requested, delivered, applied at a step, verified; each with its time."""
    with served.trainer() as trainer:
        trainer.hello()
        asked = order(served, strategy="reset", layers=["bn"], key="one")
        assert (asked["state"], asked["producer"], asked["role"]) == ("requested", "p-1", "control")
        command = trainer.hear(wire.Command)
        assert (command.id, command.producer, command.action) == (asked["id"], "p-1", "sanitize")
        assert (command.strategy, command.layers, command.dry_run) == ("reset", ["bn"], False)
        assert 25 < command.ttl <= 30
        report(trainer, command, "delivered", 10)
        assert shown(served, command)["state"] == "delivered"
        report(trainer, command, "applied", 11, result={"repairs": [{"layer": "bn"}]})
        report(trainer, command, "delivered", 12)  # late: changes nothing
        applied = shown(served, command)
        assert (applied["state"], applied["step"], applied["applied"]) == ("applied", 11, "1970-01-12T13:46:51.000Z")
        report(trainer, command, "verified", 16, result={"clean": 5})
        done = shown(served, command)
        assert (done["state"], done["step"]) == ("verified", 11)
        assert done["result"] == {"repairs": [{"layer": "bn"}], "clean": 5}
    assert [one["id"] for one in served.get(PATH)["commands"]] == [command.id]
    with served.service.parts.database.reading() as connection:
        rows = [(row["outcome"], row["origin"]) for row in journal.audited(connection, "run-1")]
    trail = "producer p-1"
    assert rows == [("requested", "127.0.0.1"), ("delivered", trail), ("applied", trail), ("verified", trail)]


def test_the_same_key_asks_once(served: Served) -> None:
    """The command that it made the first time comes back, and the trainer gets one."""
    with served.trainer() as trainer:
        trainer.hello()
        assert order(served, key="same") == order(served, key="same")
        order(served, key="other")
        ids = [trainer.hear(wire.Command).id for _ in range(2)]
        assert len(set(ids)) == 2
        trainer.store(layout(("", wire.RUN, wire.LOSS)))  # an ack, and no third command before it


def test_a_trainer_that_was_away_gets_it_at_its_next_hello(served: Served) -> None:
    """And again on every connection until it says that it took it."""
    with served.trainer() as trainer:
        trainer.hello()
    until(lambda: not served.get("/api/runs/run-1")["connected"])
    asked = order(served)
    for _ in range(2):
        with served.trainer() as trainer:
            trainer.hello()
            command = trainer.hear(wire.Command)
            assert command.id == asked["id"]
    with served.trainer() as trainer:
        trainer.hello()
        command = trainer.hear(wire.Command)
        report(trainer, command, "delivered", 1)
    with served.trainer() as trainer:
        trainer.hello()
        trainer.store(layout(("", wire.RUN, wire.LOSS)))  # nothing came before the ack


def test_a_command_is_fenced_by_its_producer(served: Served) -> None:
    """A newer process of the run never gets what was meant for the one before, nor may it report on it."""
    with served.trainer() as old:
        old.hello()
    asked = order(served)
    with served.trainer(producer="p-2", started=2.0) as new:
        new.hello()
        new.store(layout(("", wire.RUN, wire.LOSS)))
        new.store(wire.CommandUpdate(step=1, time=1.0, id=asked["id"], state="verified"))
    assert served.get(f"{PATH}/{asked['id']}")["state"] == "requested"


def test_what_nobody_takes_expires(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a reason; a trainer's late report still counts."""
    monkeypatch.setattr("trainvitals_server.commands.dispatch.DELIVERY_SECONDS", 0.2)
    assert states.DELIVERY_SECONDS == 30.0
    with served.trainer() as trainer:
        trainer.hello()
        order(served)
        command = trainer.hear(wire.Command)
        expired = until(lambda: (found := shown(served, command))["state"] == "expired" and found)
        assert "not delivered in time" in expired["reason"]
        report(trainer, command, "applied", 3)
        assert shown(served, command)["state"] == "applied"


def test_a_dry_run_goes_to_the_top_at_once(served: Served) -> None:
    """With what it would repair."""
    with served.trainer() as trainer:
        trainer.hello()
        order(served, dry_run=True)
        command = trainer.hear(wire.Command)
        assert command.dry_run
        report(trainer, command, "verified", 4, result={"dry_run": True, "repairs": []})
        done = shown(served, command)
        assert (done["state"], done["step"], done["result"]) == ("verified", 4, {"dry_run": True, "repairs": []})


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"action": "stop"}, 409, "this trainer allows (sanitize, undo), got 'stop'"),
        ({"action": "format_disk"}, 422, "body.action"),
        ({}, 422, "body.action"),
        ({"action": "sanitize", "strategy": "magic"}, 422, "body.strategy"),
        ({"action": "sanitize", "layers": "bn"}, 422, "body.layers"),
        ({"action": "sanitize", "layers": []}, 422, "body.layers"),
        ({"action": "sanitize", "dry_run": 1}, 422, "body.dry_run"),
        ({"action": "sanitize", "surprise": 1}, 422, "body.surprise"),
        ({"action": "undo"}, 422, "body.of"),
        ({"action": "undo", "of": "x", "dry_run": True}, 422, "go with sanitize"),
    ],
)
def test_what_is_not_allowed_or_ill_formed_is_refused(
    served: Served, body: dict[str, Any], status: int, reason: str
) -> None:
    """In one line that names what was expected, and nothing reaches the trainer."""
    with served.trainer() as trainer:
        trainer.hello()
        answer = served.ask("POST", PATH, "control", json=body)
        assert (answer.status_code, reason in answer.json()["detail"]) == (status, True), answer.text
    assert served.get(PATH)["commands"] == []


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b'{"action": "sanitize", "key": NaN}', "application/json"),
        (b'{"action": "sanitize", "dry_run": 1e999}', "application/json"),
        (b'{"action": "sanitize"', "application/json"),
        (b"\xff\xfe", "application/json"),
        (b'{"action": "sanitize"}', "text/plain"),
    ],
)
def test_a_body_that_is_no_json_is_422_and_never_500(served: Served, content: bytes, kind: str) -> None:
    """Bare NaN, overflow, truncation, another encoding, another type."""
    answer = served.ask("POST", PATH, "control", content=content, headers={"Content-Type": kind})
    assert answer.status_code in (400, 422), answer.text
    assert list(answer.json()) == ["detail"]


def test_a_run_that_has_ended_takes_no_command(served: Served) -> None:
    """409; an unknown one is 404."""
    with served.trainer() as trainer:
        trainer.hello()
        trainer.store(wire.Lifecycle(step=9, time=time.time(), state="finished"))
        answer = served.ask("POST", PATH, "control", json={"action": "sanitize"})
        assert (answer.status_code, "finished" in answer.json()["detail"]) == (409, True)
    assert served.ask("POST", "/api/runs/nothing/commands", "control", json={"action": "sanitize"}).status_code == 404


def test_the_live_socket_shows_every_rung(served: Served) -> None:
    """As it happens."""
    with served.trainer() as trainer:
        trainer.hello()
        trainer.store(layout(("", wire.RUN, wire.LOSS)), frame(1, [1.0]))
        with served.live("run-1", "control") as browser:
            until(lambda: '"type":"alerts"' in str(browser.recv(10)))
            order(served)
            report(trainer, trainer.hear(wire.Command), "delivered", 2)
            seen = [
                until(lambda: (text := str(browser.recv(10))) and '"type":"command"' in text and text) for _ in range(2)
            ]
        assert '"state":"requested"' in seen[0]
        assert '"state":"delivered"' in seen[1]


def test_what_a_run_left_unfinished_is_unknown_until_its_trainer_says_more(served: Served) -> None:
    """A run that has ended keeps no command under way; a late report overrules that."""
    with served.trainer() as trainer:
        trainer.hello()
        order(served)
        command = trainer.hear(wire.Command)
        report(trainer, command, "delivered", 1)
        trainer.store(wire.Lifecycle(step=2, time=1e6, state="finished"))
        left = shown(served, command)
        assert (left["state"], "the run has finished" in left["reason"]) == ("unknown", True)
        report(trainer, command, "verified", 2)
        assert shown(served, command)["state"] == "verified"


def test_a_process_that_takes_over_ends_what_the_one_before_had_taken(served: Served) -> None:
    """Nobody else will ever report on it."""
    with served.trainer() as old:
        old.hello()
        order(served)
        command = old.hear(wire.Command)
        report(old, command, "delivered", 1)
    with served.trainer(producer="p-2", started=2.0) as new:
        new.hello()
        left = shown(served, command)
    assert (left["state"], "another process" in left["reason"]) == ("unknown", True)


def test_more_commands_than_fit_at_once_reach_a_trainer_that_comes_back(served: Served) -> None:
    """On that very connection, in order."""
    with served.trainer() as trainer:
        trainer.hello()
    until(lambda: not served.get("/api/runs/run-1")["connected"])
    asked = [order(served, key=f"key-{place}")["id"] for place in range(20)]
    with served.trainer() as trainer:
        trainer.hello()
        assert [trainer.hear(wire.Command).id for _ in asked] == asked

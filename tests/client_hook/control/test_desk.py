"""Commands: refused or journalled, applied at a safe point once, verified or failed."""

from pathlib import Path
from typing import Any

import pytest
import torch

import trainvitals
from loops import batches, of_type, small_net, spooled, train_fp16
from trainvitals import wire
from trainvitals.control import desk


class Trainer:
    """A watched run whose commands come from the test instead of a server."""

    def __init__(self, allow: tuple[str, ...] = ("sanitize", "undo"), auto_sanitize: Any = "off") -> None:
        self.model = small_net()
        self.optimizer = torch.optim.SGD(self.model.parameters(), 1e-3)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        self.watch = trainvitals.watch(
            self.model,
            self.optimizer,
            scaler=self.scaler,
            mode="offline",
            allow=allow,
            auto_sanitize=auto_sanitize,
        )
        assert self.watch._producer._desk is not None
        self.desk = self.watch._producer._desk
        self.producer = self.desk._identity.producer

    def train(self, steps: int, bad: tuple[int, ...] = ()) -> None:
        train_fp16(
            self.model,
            self.optimizer,
            self.scaler,
            batches(steps, bad=bad),
            lambda step, loss: self.watch.step(loss=loss),
        )

    def send(self, id: str = "c1", action: Any = "sanitize", **more: Any) -> None:
        command = {"producer": self.producer, "ttl": 30.0, "expires": 0.0, **more}
        self.desk.receive(wire.Command(id=id, action=action, **command))

    def updates(self) -> list[wire.CommandUpdate]:
        self.watch.close()
        assert self.watch.spool_path is not None
        return of_type(spooled(self.watch.spool_path), wire.CommandUpdate)


def ladder(updates: list[wire.CommandUpdate]) -> list[tuple[str, int]]:
    return [(update.state, update.step) for update in updates]


def test_the_button_repairs_at_the_next_step_and_is_verified() -> None:
    """delivered, applied at step N, verified after ten clean steps."""
    trainer = Trainer()
    trainer.train(6, bad=(3,))
    trainer.send()
    assert not trainvitals.check_model_health(trainer.model).is_healthy
    trainer.train(12)
    assert trainvitals.check_model_health(trainer.model).is_healthy
    updates = trainer.updates()
    assert ladder(updates) == [("delivered", 5), ("applied", 6), ("verified", 16)]
    assert [repair["layer"] for repair in updates[1].result["repairs"]] == ["1", "4"]
    assert {repair["strategy"] for repair in updates[1].result["repairs"]} == {"restore"}


def test_a_dry_run_changes_nothing_and_lists_everything() -> None:
    """What would be replaced, by what, and how old that is."""
    trainer = Trainer()
    trainer.train(6, bad=(3,))
    trainer.send(dry_run=True, strategy="restore")
    trainer.train(1)
    updates = trainer.updates()
    assert [state for state, _ in ladder(updates)] == ["delivered", "applied", "verified"]
    first = updates[1].result["repairs"][0]
    assert (first["layer"], first["channels"], first["snapshot_step"]) == ("1", 8, 2)
    assert not trainvitals.check_model_health(trainer.model).is_healthy


def test_only_the_layers_named_are_repaired() -> None:
    """Others stay as they are."""
    trainer = Trainer()
    trainer.train(6, bad=(3,))
    trainer.send(layers=["4"], strategy="reset")
    trainer.train(1)
    issues = {issue.key.split(".")[0] for issue in trainvitals.check_model_health(trainer.model).issues}
    assert issues == {"1"}
    trainer.watch.close()


def test_corrupt_again_within_ten_steps_is_a_failure() -> None:
    """The repair did not hold."""
    trainer = Trainer()
    trainer.train(6, bad=(3,))
    trainer.send()
    trainer.train(6, bad=(4,))
    last = trainer.updates()[-1]
    assert (last.state, last.step) == ("failed", 10)
    assert last.reason == "corrupt again at step 10: 1, 4"


def test_undo_puts_back_what_was_there() -> None:
    """Once."""
    trainer = Trainer()
    trainer.train(6, bad=(3,))
    trainer.send("c1")
    trainer.train(1)
    trainer.send("c2", "undo", of="c1")
    trainer.send("c3", "undo", of="c1")
    trainer.train(1)
    assert not trainvitals.check_model_health(trainer.model).is_healthy
    by_id = {update.id: update for update in trainer.updates()}
    assert by_id["c2"].state == "verified"
    assert by_id["c3"].state == "refused"


@pytest.mark.parametrize(
    ("settings", "command", "reason"),
    [
        ({"allow": ()}, {}, "this trainer allows no actions, not sanitize"),
        ({}, {"producer": "someone"}, "meant for producer someone"),
        ({}, {"ttl": 0.0}, "it expired on the way"),
        ({}, {"action": "stop"}, "this trainer allows sanitize, undo, not stop"),
        ({}, {"layers": ["nope"]}, "got 'nope'"),
        ({}, {"action": "undo"}, "expected `of` to name the command"),
    ],
)
def test_what_is_not_right_is_refused_and_changes_nothing(
    settings: dict[str, Any], command: dict[str, Any], reason: str
) -> None:
    """With the reason."""
    trainer = Trainer(**settings)
    trainer.train(5, bad=(3,))
    trainer.send(**command)
    trainer.train(1)
    assert not trainvitals.check_model_health(trainer.model).is_healthy
    last = trainer.updates()[-1]
    assert last.state == "refused"
    assert reason in last.reason


def test_a_command_is_applied_at_most_once() -> None:
    """However often it is delivered."""
    trainer = Trainer()
    trainer.train(5, bad=(3,))
    trainer.send()
    trainer.send()
    trainer.train(1)
    trainer.send()
    trainer.train(1)
    assert [state for state, _ in ladder(trainer.updates())].count("applied") == 1


def test_the_id_is_on_disk_before_anything_is_done() -> None:
    """So that a crash in between is known."""
    trainer = Trainer()
    trainer.send("c7")
    journal = Path(str(trainer.watch.spool_path)) / "journal"
    assert '"c7"' in journal.read_text()
    assert journal.stat().st_mode & 0o777 == 0o600
    trainer.watch.close()


def test_a_command_that_waits_when_the_run_ends_fails() -> None:
    """Not silence."""
    trainer = Trainer()
    trainer.send()
    last = trainer.updates()[-1]
    assert (last.state, last.reason) == ("failed", "the run ended before the next safe point")


def test_a_repair_that_was_clean_until_the_end_is_verified() -> None:
    """With the number of steps it was clean for."""
    trainer = Trainer()
    trainer.train(5, bad=(3,))
    trainer.send()
    trainer.train(4)
    last = trainer.updates()[-1]
    assert (last.state, last.reason) == ("verified", "the run ended after 3 clean steps")


def test_repair_can_be_resumed_after_a_halt() -> None:
    """`max_repairs` is not the last word."""
    trainer = Trainer(allow=("resume_repair",))
    trainer.watch._keeper.halted = True
    trainer.send(action="resume_repair")
    trainer.train(1)
    assert not trainer.watch._keeper.halted
    assert trainer.updates()[-1].state == "verified"


def test_stop_and_save_do_what_they_say(tmp_path: Path) -> None:
    """The loop is asked to stop; the checkpoint lies beside the last one."""
    trainer = Trainer(allow=("stop", "save_checkpoint"))
    trainer.train(3)
    trainer.watch.save_checkpoint(tmp_path / "x.pth")
    trainer.send("c1", "save_checkpoint")
    trainer.send("c2", "stop")
    trainer.train(1)
    assert trainer.watch.should_stop
    saved = next(update for update in trainer.updates() if update.id == "c1" and update.state == "applied")
    assert Path(saved.result["path"]) == tmp_path / "x_step3.pth"
    assert (tmp_path / "x_step3.pth").exists()


def test_only_the_latest_commands_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never stops sending costs no memory."""
    monkeypatch.setattr(desk, "REMEMBERED", 3)
    trainer = Trainer(allow=())
    for one in ("a", "b", "b", "c", "d"):
        trainer.send(one)
    assert list(trainer.desk._seen) == ["b", "c", "d"]
    assert [update.id for update in trainer.updates()] == ["a", "b", "c", "d"]

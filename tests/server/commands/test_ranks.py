"""Commands to a run of several ranks: whom they address, and one outcome for each."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from served import Served, Speaker, until
from trainvitals import wire

PATH = "/api/runs/run-1/commands"
EVERY = ["sanitize", "undo", "resume_repair", "stop", "save_checkpoint"]


@contextmanager
def ranks(served: Served, size: int = 3, **of_rank: dict[str, Any]) -> Iterator[list[Speaker]]:
    """Trainers of one launch that have said hello; `of_rank` is what differs, as r1={...}."""
    with ExitStack() as stack:
        found = []
        for rank in range(size):
            who = {"producer": f"p-{rank}", "rank": rank, "world_size": size, "launch": "l-1", "allow": EVERY}
            found.append(stack.enter_context(served.trainer(**{**who, **of_rank.get(f"r{rank}", {})})))
            found[-1].hello()
        yield found


def order(served: Served, action: str = "sanitize", **body: Any) -> Any:
    answer = served.ask("POST", PATH, "control", json={"action": action, **body})
    assert answer.status_code == 202, answer.text
    return answer.json()


def report(trainer: Speaker, command: wire.Command, state: wire.CommandState, **rest: Any) -> None:
    trainer.store(wire.CommandUpdate(step=7, time=time.time(), id=command.id, state=state, **rest))


def addressed(command: Any) -> list[int]:
    return [command["rank"], *(part["rank"] for part in command["parts"])]


def test_each_rank_has_an_outcome_of_its_own(served: Served) -> None:
    """One verifies, another fails; and the command is one all the same."""
    with ranks(served) as speakers:
        asked = order(served, strategy="reset", layers=["bn"])
        assert addressed(asked) == [0, 1, 2]
        heard = [speaker.hear(wire.Command) for speaker in speakers]
        assert [one.producer for one in heard] == ["p-0", "p-1", "p-2"]
        assert {(one.strategy, tuple(one.layers or ())) for one in heard} == {("reset", ("bn",))}
        assert len({one.id for one in heard}) == 3
        report(speakers[0], heard[0], "verified")
        report(speakers[1], heard[1], "failed", reason="corrupt again")
        report(speakers[2], heard[2], "applied")
        shown = served.get(f"{PATH}/{asked['id']}")
        assert [shown["state"], *(part["state"] for part in shown["parts"])] == ["verified", "failed", "applied"]
        assert shown["parts"][0]["reason"] == "corrupt again"
        assert [one["id"] for one in served.get(PATH)["commands"]] == [asked["id"]]


def test_a_rank_that_follows_is_not_asked(served: Served) -> None:
    """Under a buffer broadcast rank 0 repairs for all."""
    with ranks(served, r1={"follows": True}, r2={"follows": True}) as speakers:
        assert addressed(order(served)) == [0]
        assert speakers[0].hear(wire.Command).producer == "p-0"


@pytest.mark.parametrize("action", ["stop", "save_checkpoint"])
def test_what_the_whole_loop_must_decide_is_rank_0s(served: Served, action: str) -> None:
    """Ranks that stopped at steps of their own would wait for each other for ever."""
    with ranks(served):
        assert addressed(order(served, action)) == [0]


def test_a_rank_that_has_ended_or_does_not_allow_it_is_not_asked(served: Served) -> None:
    """Nor one of another launch."""
    with ranks(served, 4, r2={"allow": []}, r3={"launch": "l-0"}) as speakers:
        speakers[1].store(wire.Lifecycle(step=3, time=1e6, state="failed", error="boom"))
        assert addressed(order(served)) == [0]


def test_undoing_addresses_the_ranks_that_did_it(served: Served) -> None:
    """Each by what it was asked then."""
    with ranks(served, r1={"follows": True}) as speakers:
        done = order(served)
        asked = {speakers[rank].hear(wire.Command).id for rank in (0, 2)}
        undo = order(served, "undo", of=done["id"])
        assert addressed(undo) == [0, 2]
        assert {speakers[rank].hear(wire.Command).of for rank in (0, 2)} == asked


def test_a_rank_that_comes_later_gets_its_part(served: Served) -> None:
    """As soon as it says hello again."""
    with ranks(served, 2) as speakers:
        speakers[1].socket.close()
        asked = order(served)
        with served.trainer(producer="p-1", rank=1, world_size=2, launch="l-1", allow=EVERY) as again:
            again.hello()
            assert again.hear(wire.Command).id == asked["parts"][0]["id"]


def test_a_rank_that_is_replaced_leaves_its_part_unknown(served: Served) -> None:
    """Only its own."""
    with ranks(served, 2) as speakers:
        asked = order(served)
        for speaker in speakers:
            report(speaker, speaker.hear(wire.Command), "applied")
        with served.trainer(producer="q-1", rank=1, world_size=2, launch="l-1", started=2.0) as new:
            new.hello()
            shown = until(lambda: served.get(f"{PATH}/{asked['id']}"))
            assert [shown["state"], shown["parts"][0]["state"]] == ["applied", "unknown"]


def test_browsers_see_the_command_as_one(served: Served) -> None:
    """Whichever of its parts has moved."""
    with ranks(served, 2) as speakers, served.live("run-1") as browser:
        asked = order(served)
        heard = speakers[1].hear(wire.Command)
        report(speakers[1], heard, "verified")
        texts = (str(browser.recv(10)) for _ in range(100))
        text = next(text for text in texts if text.startswith('{"type":"command"') and '"state":"verified"' in text)
        assert f'"id":"{asked["id"]}"' in text
        assert text.index('"parts"') < text.index('"state":"verified"')

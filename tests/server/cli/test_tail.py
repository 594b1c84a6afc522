"""`tail` when the server goes away for a while, and when the verdict changes."""

from typing import Any

import pytest

from trainvitals_server.cli import client
from trainvitals_server.cli.tail import Tail


def summary(state: str, level: str, step: int) -> dict[str, Any]:
    verdict = {"level": level, "text": f"{level} now"}
    return {"state": state, "verdict": verdict, "step": step, "first_bad_step": None, "sanitizations": 0}


def event(number: int) -> dict[str, Any]:
    return {"id": number, "step": number, "type": "notice", "layer": None, "data": {"text": f"event {number}"}}


class Script(client.Client):
    """A server that gives these answers, one look after another; None is no answer."""

    def __init__(self, *looks: tuple[dict[str, Any], list[dict[str, Any]]] | None) -> None:
        self.looks = list(looks)

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        look = self.looks[0]
        if look is None:
            self.looks.pop(0)
            raise client.Unreachable("no answer from here")
        if not path.endswith("/events"):
            return look[0]
        self.looks.pop(0)
        return {"events": [one for one in look[1] if one["id"] > (query["after"] or 0)], "next": None}


def test_a_server_that_is_away_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    """It says so once, and afterwards goes on where it was."""
    script = Script(
        (summary("live", "ok", 5), [event(1)]),
        None,
        None,
        (summary("live", "ok", 7), [event(1), event(2)]),
        (summary("finished", "warning", 9), [event(2), event(3)]),
    )
    tail = Tail(script, "r", as_json=False)
    assert [tail.look() for _ in range(5)] == [False, False, False, False, True]
    out, err = capsys.readouterr()
    assert [line.split()[1:] for line in out.splitlines()] == [
        ["notice", "text", "event", "1"],
        ["live", "ok", "now"],
        ["notice", "text", "event", "2"],
        ["notice", "text", "event", "3"],
        ["finished", "warning", "now"],
    ]
    assert err.splitlines() == ["trainvitals: no answer from here; waiting for it"]

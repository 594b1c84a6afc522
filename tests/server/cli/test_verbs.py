"""The verbs against a real server and a real trainer, whose statistics broke at step 20 and are left so."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trainvitals_server.cli import client, main, sanitize

Tell = Callable[..., tuple[int, str, str]]
Broken = tuple[str, Callable[[], None]]

LAYER = "1"  # the first BatchNorm of the small network


@pytest.fixture
def run(broken: Broken, tell: Tell) -> str:
    """The run, once the server knows that it is broken and has seen a validation of it."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        known = json.loads(tell("show", "broken", "--json")[1] or "{}")
        if known.get("incidents") and known["validations"]:
            return broken[0]
        time.sleep(0.1)
    raise AssertionError("the server never heard of the break")


def test_runs_lists_the_broken_run_with_its_verdict(run: str, tell: Tell) -> None:
    """Its name cannot drive the terminal."""
    code, out, err = tell("runs")
    assert (code, err) == (0, "")
    assert run in out
    assert f"CRITICAL: 1 BatchNorm layer non-finite since step 20, first {LAYER}" in out
    assert "broken\\x1b[2J" in out
    assert "\x1b" not in out


def test_reading_verbs_print_json(run: str, tell: Tell) -> None:
    """One document, or one per line where there may be many."""
    assert [known["id"] for known in json.loads(tell("runs", "--json")[1])["runs"]] == [run]
    shown = json.loads(tell("show", run, "--json")[1])
    assert shown["incidents"][0]["first_bad_layer"] == LAYER
    alerts = json.loads(tell("alerts", "--json", "--status", "firing")[1])["alerts"]
    assert "norm_nonfinite" in {alert["rule"] for alert in alerts}
    events = [json.loads(line) for line in tell("events", run, "--json")[1].splitlines()]
    assert [event["id"] for event in events] == sorted(event["id"] for event in events)
    assert events[0]["type"] == "lifecycle"


def test_show_tells_the_incident(run: str, tell: Tell) -> None:
    """Verdict, chain, alerts and validations, for a run named by the beginning of its id."""
    code, out, _ = tell("show", run[:-2])
    assert code == 0
    assert f"Incident at step 20 in {LAYER} (open)" in out
    assert "Validation at step 29" in out
    assert "advice" in out
    assert "Running" not in out.splitlines()[0]


def test_events_can_be_narrowed(run: str, tell: Tell) -> None:
    """By type and by steps; the server reads the pages one after another."""
    lines = tell("events", run, "--type", "nonfinite,validation", "--from", "20", "--to", "29")[1].splitlines()
    assert [line.split()[:2] for line in lines] == [["20", "nonfinite"], ["29", "validation"]]
    assert "kind inf" in lines[0]


def test_alerts_of_one_run_are_listed(run: str, tell: Tell) -> None:
    """With what they say."""
    _, out, _ = tell("alerts", run)
    assert "critical" in out
    assert "broken since step 20" in out
    assert tell("alerts", "--status", "acknowledged")[1] == "No alerts.\n"


def test_a_dry_run_says_what_would_be_done_and_a_repair_climbs_the_ladder(run: str, tell: Tell) -> None:
    """Then there is nothing left to repair, and the run has recovered."""
    code, out, _ = tell("sanitize", run, "--dry-run")
    assert code == 0
    assert out.splitlines()[-1].split() == [LAYER, "1", "of", "8", "restore", "step", "19", "running_mean"]
    assert "non-finite since" in tell("runs")[1]

    code, out, err = tell("sanitize", run)
    assert (code, err) == (0, "")
    rungs = out.splitlines()
    assert rungs[:2] == ["requested", "delivered"]
    assert rungs[2].startswith("applied at step ")
    assert rungs[3].startswith("verified")

    done = json.loads(tell("sanitize", run, "--dry-run", "--json")[1])
    assert (done["state"], done["result"]["repairs"]) == ("verified", [])
    assert "Nothing to repair" in tell("sanitize", run, "--dry-run")[1]


def test_a_wait_that_is_too_short_ends_with_the_state_reached(run: str, tell: Tell) -> None:
    """The command goes on by itself."""
    code, _, err = tell("sanitize", run, "--timeout", "0")
    assert code == 1
    assert "not verified within 0 s" in err
    assert len(err.splitlines()) == 1


def test_tail_follows_until_the_run_ends_and_nothing_can_be_asked_of_it_then(
    broken: Broken, run: str, tell: Tell, served: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints the events so far, those that come, and the verdict."""
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main(["tail", run, "--directory", str(served)])))
    thread.start()
    broken[1]()
    thread.join(30)
    assert codes == [0]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[1] == "lifecycle"
    assert any(line.split()[1] == "sanitized" for line in lines)
    assert lines[-1].split()[1] == "finished"
    assert "Recovered: 1 BatchNorm layer non-finite from step 20" in lines[-1]

    as_json = [json.loads(line) for line in tell("tail", run, "--json")[1].splitlines()]
    assert as_json[-1]["run"]["state"] == "finished"
    code, _, err = tell("sanitize", run)
    assert code == 1
    assert "409" in err
    assert len(err.splitlines()) == 1


def test_open_prints_a_link_to_the_run(run: str, tell: Tell) -> None:
    """It can be used once."""
    code, out, _ = tell("open", run, "--print")
    assert code == 0
    assert out.strip().endswith(f"#/runs/{run}")
    assert "/signin?code=" in json.loads(tell("open", "--json")[1])["url"]


def test_an_unknown_run_is_one_line(run: str, tell: Tell) -> None:
    """It says which runs there are."""
    for verb in ("show", "tail", "events", "sanitize", "open", "alerts"):
        code, out, err = tell(verb, "nobody")
        assert (code, out) == (1, "")
        assert err == f"trainvitals: expected the id or name of one run ({run}); got 'nobody', which is none of them\n"


@pytest.mark.parametrize(
    ("state", "said"), [("refused", "refused: no"), ("expired", "expired: no"), ("unknown", "unknown: no")]
)
def test_a_command_that_came_to_nothing_gives_its_reason(state: str, said: str) -> None:
    """Exit code 1, and the reason on one line."""
    with pytest.raises(client.Failure, match=said) as caught:
        sanitize.judge({"state": state, "reason": "no"}, 1.0)
    assert caught.value.code == 1


def test_every_rung_is_printed_once_however_fast_they_are_passed(capsys: pytest.CaptureFixture[str]) -> None:
    """A look may find the command two rungs further."""
    ladder = sanitize.Ladder(quiet=False)
    looks: Iterator[dict[str, Any]] = (
        {"state": state, "step": 7, "reason": ""} for state in ("requested", "requested", "applied", "expired")
    )
    for command in looks:
        ladder.climb(command)
    assert capsys.readouterr().out.splitlines() == ["requested", "delivered", "applied at step 7"]

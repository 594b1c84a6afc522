"""The user's failure, for real: the example trains, breaks by itself, and is repaired from the page."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from program import Program, serving
from watching import Watch, until

TRAIN = Path(__file__).parents[2] / "examples/wavessm/train.py"
ITERS, BAD, VAL_EVERY = 240, 40, 20
FIRST_LAYER = "refinement_ffc.scales.0.ffc.spectral.mix.1"


class Example:
    """The training program in a process of its own, with one over-exposed batch and automatic repair off."""

    def __init__(self, program: Program, run: str, folder: Path) -> None:
        self._diary = folder / "diary.json"
        chosen = {
            "iters": ITERS,
            "bad_steps": BAD,
            "val_every": VAL_EVERY,
            "auto_sanitize": "off",
            "model_file": folder / "wavessm_x.pth",
            "json_out": self._diary,
        }
        command = [sys.executable, str(TRAIN), *(part for k, v in chosen.items() for part in (f"--{k}", str(v)))]
        environment = {**os.environ, "TRAINVITALS_DIR": str(program.directory), "TRAINVITALS_RUN_ID": run}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)

    def finish(self) -> dict[str, Any]:
        """What the trainer itself saw, after its end."""
        assert self.process.wait(300) == 0
        diary: dict[str, Any] = json.loads(self._diary.read_text())
        return diary


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A server of this module's own: it will be killed."""
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def train(program: Program, tmp_path: Path) -> Iterator[Callable[[str], Example]]:
    """Starts examples, and ends those a failed test left behind."""
    started: list[Example] = []

    def start(run: str) -> Example:
        started.append(Example(program, run, tmp_path))
        return started[-1]

    yield start
    for example in started:
        example.process.kill()
        example.process.wait()


def step_on_the_server(program: Program, run: str) -> int:
    """The newest step, -1 before the first."""
    known = {summary["id"]: summary["step"] for summary in program.get("/api/runs")["runs"]}
    return int(known.get(run) or -1)


def wait_for_step(program: Program, run: str, step: int) -> None:
    deadline = time.monotonic() + 300  # it trains, beside whatever else this machine does
    while step_on_the_server(program, run) < step:
        assert time.monotonic() < deadline, f"expected step {step} of {run}"
        time.sleep(0.1)


def test_the_failure_is_seen_named_and_repaired_by_the_button(
    program: Program, train: Callable[[str], Example], open_run: Callable[..., Page]
) -> None:
    """Stuck with 0 valid batches and refused checkpoints until the button is pressed; well from then on."""
    example = train("button")
    wait_for_step(program, "button", BAD + VAL_EVERY + 1)
    page = open_run("button")
    expect(page.locator(".verdict .badge")).to_have_text("Critical")
    expect(page.locator(".verdict")).to_contain_text(f"since step {BAD}")
    expect(page.locator(".verdict")).to_contain_text(FIRST_LAYER)
    page.locator("#sanitize").click()
    dialog = page.get_by_role("dialog", name="Sanitize")
    expect(dialog.locator("tbody tr")).to_have_count(5)
    dialog.locator("#confirm").click()
    expect(page.locator(".command .ladder")).to_have_attribute("data-state", "verified", timeout=60_000)
    (applied,) = (c["step"] for c in program.get("/api/runs/button/commands")["commands"] if not c["dry_run"])
    validations = {point["step"]: point["valid"] for point in example.finish()["validations"]}
    before = {step: valid for step, valid in validations.items() if BAD <= step < applied}
    after = {step: valid for step, valid in validations.items() if step > applied}
    assert before
    assert set(before.values()) == {0}
    assert after
    assert set(after.values()) == {6}
    assert program.get("/api/runs/button")["checkpoints"]["refused"] == len(before)
    expect(page.locator(".chip")).to_have_text("Trainer ended")
    expect(page.locator("#sanitize-why")).to_have_text("the run has ended")


def test_a_server_killed_in_mid_run_gets_the_missing_steps_afterwards(
    program: Program, train: Callable[[str], Example], open_run: Callable[..., Page], watch: Watch
) -> None:
    """Training goes on, the page reconnects, and nothing is missing in the end."""
    watch.allow("WebSocket connection|ERR_CONNECTION_REFUSED|Failed to load resource")
    example = train("survivor")
    wait_for_step(program, "survivor", 20)
    page = open_run("survivor")
    program.kill()
    expect(page.locator(".chip")).to_have_text("Reconnecting")
    until(page, "() => new Promise((done) => setTimeout(() => done(true), 2000))")
    assert example.process.poll() is None
    program.start()
    expect(page.locator(".chip")).not_to_have_text("Reconnecting")
    example.finish()
    series = program.get("/api/runs/survivor/series")["series"]
    (loss,) = (one["id"] for one in series if one["stat"] == "loss" and one["kind"] == "run")
    data = program.get(f"/api/runs/survivor/data?series={loss}&points={2 * ITERS}")
    assert data["series"][0]["step"] == list(range(1, ITERS + 1))
    assert data["gaps"] == []
    expect(page.locator(".numbers .main dd")).to_have_text(str(ITERS))

"""A server that dies in mid-run and comes back."""

import json
import re
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, Response, expect

from program import Program, serving
from scripted import Trainer
from watching import Watch, until

STEPS = """() => {
  const plot = document.querySelector('[data-panel="loss"] .plot');
  const line = (plot?.data ?? []).find((trace) => trace.name === "loss");
  return (line?.x ?? []).filter((x, i) => line.y[i] !== null);
}"""

WHOLE = re.compile(r"/(data|heatmap)\?")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A server of this module's own: it will be killed."""
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


def test_the_page_reconnects_and_the_missing_steps_fill_in(
    open_run: Callable[..., Page], hire: Callable[..., Trainer], program: Program, watch: Watch
) -> None:
    """Training goes on meanwhile; what happened in the dark is there afterwards, without reloading."""
    watch.allow("WebSocket connection|ERR_CONNECTION_REFUSED|Failed to load resource")
    trainer = hire("survivor")
    trainer.train(40)
    page = open_run("survivor")
    expect(page.locator(".numbers .main dd")).to_have_text("40")
    page.evaluate("window.stayed = true")
    program.kill()
    expect(page.locator(".chip")).to_have_text("Reconnecting")
    trainer.train(30)
    program.start()
    trainer.train(10)
    expect(page.locator(".chip")).to_have_text("Live")
    expect(page.locator(".numbers .main dd")).to_have_text("80")
    until(page, f"() => ({STEPS})().length === 80")
    assert page.evaluate(STEPS) == list(range(1, 81))
    assert page.evaluate("window.stayed") is True


def test_after_a_break_only_what_is_new_is_asked_for(
    open_run: Callable[..., Page], hire: Callable[..., Trainer], program: Program, watch: Watch
) -> None:
    """Charts and heatmap name the mark of their last answer, and what comes back begins where that ended."""
    watch.allow("WebSocket connection|ERR_CONNECTION_REFUSED|Failed to load resource")
    trainer = hire("caught-up")
    trainer.train(300)
    trainer.settle()
    page = open_run("caught-up")
    until(page, f"() => ({STEPS})().length === 300")
    program.kill()
    expect(page.locator(".chip")).to_have_text("Reconnecting")
    trainer.train(20)
    answers: list[Response] = []
    page.on("response", lambda one: answers.append(one) if one.ok and WHOLE.search(one.url) else None)
    program.start()
    until(page, f"() => ({STEPS})().length === 320")
    expect(page.locator(".chip")).to_have_text("Live")
    assert {kind(one) for one in answers} == {"data", "heatmap"}
    for one in answers:
        assert "since=" in one.url
        assert header(one)["since"] >= 300


def kind(answer: Response) -> str:
    """Which question it answers."""
    found = WHOLE.search(answer.url)
    assert found is not None
    return found[1]


def header(answer: Response) -> Any:
    """What a packed answer says of itself."""
    body = answer.body()
    (length,) = struct.unpack_from("<I", body)
    return json.loads(body[4 : 4 + length])

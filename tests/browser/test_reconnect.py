"""A server that dies in mid-run and comes back."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from program import Program, serving
from scripted import Trainer
from watching import Watch, until

STEPS = """() => {
  const plot = document.querySelector('[data-panel="loss"] .plot');
  const line = (plot?.data ?? []).find((trace) => trace.name === "loss");
  return (line?.x ?? []).filter((x, i) => line.y[i] !== null);
}"""


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

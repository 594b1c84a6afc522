"""Accessibility, judged by axe on every page and state, light and dark."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from program import Program, serving
from scripted import LAYERS, Trainer

AXE = (Path(__file__).parent / "vendor" / "axe-core-4.14.1" / "axe.min.js").read_text()
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
THEMES = pytest.mark.parametrize("context", [{"color_scheme": "light"}, {"color_scheme": "dark"}], indirect=True)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A server of this module's own: its list begins empty."""
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


def violations(page: Page) -> list[str]:
    """What axe finds wrong, one line each. It runs by the debugger's channel, which the page's CSP does not reach."""
    page.evaluate(AXE)
    found: list[dict[str, Any]] = page.evaluate(
        "(tags) => axe.run(document, { runOnly: tags }).then((result) => result.violations)", TAGS
    )
    return [
        f"{one['id']}: {node['target']} {node.get('failureSummary', '')}" for one in found for node in one["nodes"][:3]
    ]


@THEMES
def test_the_empty_list(page: Page) -> None:
    """The page before there is any run."""
    expect(page.get_by_role("heading", name="No runs yet")).to_be_visible()
    assert violations(page) == []


@THEMES
def test_the_list(page: Page, hire: Callable[..., Trainer]) -> None:
    """The page with a healthy and a broken run."""
    run = f"unwell-{secrets.token_hex(4)}"
    hire(f"well-{run}").train(10)
    broken = hire(run)
    broken.train(10)
    broken.break_layers(LAYERS[0])
    broken.train(3)
    expect(page.locator(f"tr[data-run={run}] .badge")).to_have_text("Critical")
    assert violations(page) == []


@THEMES
def test_a_live_run_and_its_dialogs(open_run: Callable[..., Page], hire: Callable[..., Trainer]) -> None:
    """The run page broken and live, with the Sanitize dialog and with the help."""
    run = f"live-{secrets.token_hex(4)}"
    trainer = hire(run)
    trainer.train(20)
    trainer.validate()
    trainer.break_layers(LAYERS[2])
    trainer.train(8)
    trainer.validate()
    page = open_run(run)
    expect(page.locator(".alert").first).to_be_visible()
    expect(page.locator(".incident")).to_be_visible()
    assert violations(page) == []
    page.locator("#sanitize").click()
    expect(page.locator("#confirm")).to_be_visible()
    assert violations(page) == []
    page.locator("#confirm").click()
    expect(page.locator(".command .ladder")).to_have_attribute("data-state", "verified")
    page.locator("body").press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    assert violations(page) == []


@THEMES
def test_a_replayed_run(open_run: Callable[..., Page], hire: Callable[..., Trainer]) -> None:
    """The run page with scrubber and written incident."""
    run = f"dead-{secrets.token_hex(4)}"
    trainer = hire(run)
    trainer.train(20)
    trainer.break_layers(LAYERS[2])
    trainer.train(10)
    trainer.finish()
    trainer.close()
    page = open_run(run, "?step=25")
    expect(page.get_by_role("slider", name="Step")).to_be_visible()
    expect(page.locator(".incident")).to_be_visible()
    assert violations(page) == []


@THEMES
def test_a_failed_run_with_losses_and_one_that_hangs(
    page: Page, open_run: Callable[..., Page], hire: Callable[..., Trainer]
) -> None:
    """Traceback, stack, gaps and their explanations opened, and the list with its reasons."""
    run = f"failed-{secrets.token_hex(4)}"
    trainer = hire(run)
    trainer.train(40)
    trainer.lose(20, 20)
    trainer.spoil()
    trainer.train(40)
    trainer.finish("failed", "ValueError: no", "Traceback (most recent call last):\n" + "  line\n" * 60, "exception")
    open_run(run)
    expect(page.locator(".blame.critical pre")).to_be_visible()
    page.locator(".losses summary").click()
    page.locator("[data-panel=loss] .about summary").click()
    assert violations(page) == []
    hung = hire(f"hung-{run}")
    hung.train(20)
    hung.note("hung", "no step ended for 35 s\n  File")
    open_run(f"hung-{run}")
    expect(page.locator(".blame.warning pre")).to_be_visible()
    assert violations(page) == []
    page.goto(page.url.split("/runs/")[0])
    expect(page.locator(f"tr[data-run={run}] .reason")).to_be_visible()
    assert violations(page) == []

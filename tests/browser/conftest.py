"""The real server, a scripted trainer and a real browser. Without a Chromium these tests are skipped, loudly.

Playwright's synchronous interface keeps an event loop running while it is open, so it is opened per module and closed
before other tests need a loop of their own.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from program import Program, serving
from scripted import Trainer
from watching import Watch

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TIMEOUT_MS = 15_000
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a browser, and skip it where there is none."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if CHROMIUM is None:
                item.add_marker(pytest.mark.skip(reason="no Chromium found"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say it once more where it is seen."""
    if CHROMIUM is None:
        terminalreporter.write_line(
            "THE PAGE WAS NOT TESTED: no Chromium found (install `chromium`)", red=True, bold=True
        )


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for a module."""
    expect.set_options(timeout=TIMEOUT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """The server. Modules that need one of their own, empty or to be killed, override this."""
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def context(chromium: Browser, program: Program, request: pytest.FixtureRequest) -> Iterator[BrowserContext]:
    """A browser signed in by the one-time link. Parametrize indirectly with options of a Playwright context."""
    options = {"viewport": {"width": 1360, "height": 900}, **getattr(request, "param", {})}
    made = chromium.new_context(**options)
    made.set_default_timeout(TIMEOUT_MS)
    yield made
    made.close()


@pytest.fixture
def watch(context: BrowserContext, program: Program) -> Iterator[Watch]:
    """After each test: no error that was not provoked, and not one request to a third party."""
    watching = Watch(context, program.url)
    yield watching
    assert watching.foreign() == []
    assert watching.unexpected() == []


@pytest.fixture
def page(context: BrowserContext, watch: Watch, program: Program) -> Page:
    """A signed-in page on the list of runs."""
    opened = context.new_page()
    opened.goto(program.sign_in_link())
    return opened


@pytest.fixture
def hire(program: Program) -> Iterator[Callable[..., Trainer]]:
    """Makes scripted trainers, and ends them after the test."""
    hired: list[Trainer] = []

    def make(run: str, **options: Any) -> Trainer:
        trainer = Trainer(program.url, program.token("ingest"), run, **options)
        trainer.__enter__()
        hired.append(trainer)
        return trainer

    yield make
    for trainer in hired:
        trainer.abandon()


@pytest.fixture
def open_run(page: Page, program: Program) -> Callable[..., Page]:
    """Opens the page of a run, waits until Plotly has drawn something, and goes to a panel where one is named."""

    def go(run: str, query: str = "", panel: str = "") -> Page:
        page.goto(f"{program.url}/runs/{run}{query}")
        page.wait_for_selector(".plot .main-svg")
        if panel:
            page.locator(f"[data-panel={panel}]").first.scroll_into_view_if_needed()
        return page

    return go

"""The list of runs."""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from program import Program, serving
from scripted import Trainer


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A server of this module's own: its list begins empty."""
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


def test_the_empty_page_turns_into_the_list_when_the_first_run_appears(
    page: Page, hire: Callable[..., Trainer]
) -> None:
    """Three lines of Python to copy, and then the run, on the same page."""
    expect(page.get_by_role("heading", name="No runs yet")).to_be_visible()
    expect(page.locator("pre code")).to_contain_text("trainvitals.watch(model, optimizer, scaler=scaler)")
    page.evaluate("window.stayed = true")
    trainer = hire("first")
    trainer.train(5)
    expect(page.locator("tr[data-run=first]")).to_be_visible()
    expect(page.locator("tr[data-run=first]")).to_contain_text("wavessm")
    assert page.evaluate("window.stayed") is True


def test_the_list_is_worst_first_and_says_so_in_words(page: Page, hire: Callable[..., Trainer]) -> None:
    """A verdict is a word with an icon, and the broken run comes before the healthy ones."""
    healthy, broken = hire("healthy"), hire("broken", name="broken net")
    healthy.train(20)
    broken.train(10)
    broken.break_layers("encoder.0.1")
    broken.train(10)
    row = page.locator("tr[data-run=broken]")
    expect(row.locator(".badge")).to_have_text("Critical")
    expect(row.locator(".badge svg")).to_be_attached()
    expect(page.locator("tbody tr").first).to_have_attribute("data-run", "broken")
    expect(row.locator("svg.sparkline path.critical")).not_to_have_attribute("d", "")
    expect(page.locator("tr[data-run=healthy] .badge")).to_have_text("Healthy")


def test_the_list_can_be_filtered_with_the_keyboard(page: Page, hire: Callable[..., Trainer]) -> None:
    """`/` goes to the filter, Escape leaves it."""
    hire("alpha", name="alpha").train(3)
    hire("beta", name="beta").train(3)
    expect(page.locator("tr[data-run=beta]")).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("alpha")
    expect(page.locator("tr[data-run=beta]")).to_have_count(0)
    expect(page.locator("tr[data-run=alpha]")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()


def test_a_run_is_opened_from_the_list(page: Page, hire: Callable[..., Trainer]) -> None:
    """Its name is the link."""
    hire("opened", name="to be opened").train(3)
    page.get_by_role("link", name="to be opened").click()
    expect(page.locator(".verdict h1")).to_be_visible()
    expect(page).to_have_url(re.compile("/runs/opened$"))

"""Names that attack the page that shows them."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from scripted import Trainer

HOSTILE = (
    '<img src=x onerror="window.hit=1">',
    "<script>window.hit=1</script>",
    '<a href="javascript:window.hit=1">click</a>',
    "__proto__",
    "constructor",
    "a\u202egnp.exe\u202c",
    "%{x}<b>bold</b>&lt;i&gt;",
    "L" * 10_000,
)


@pytest.fixture
def hostile(hire: Callable[..., Trainer]) -> Trainer:
    """A run all of whose names are attacks, and broken, so that they are shown everywhere."""
    trainer = hire("hostile", name=HOSTILE[0], project=HOSTILE[1], layers=HOSTILE)
    trainer.train(20)
    trainer.break_layers(*HOSTILE)
    trainer.train(5)
    trainer.validate()
    trainer.checkpoint()
    trainer.settle()
    return trainer


def test_names_stay_text_on_both_pages(open_run: Callable[..., Page], page: Page, hostile: Trainer) -> None:
    """No element comes from a name, nothing runs, and direction marks are spelled out."""
    row = page.locator("tr[data-run=hostile]")
    expect(row).to_contain_text("<img src=x onerror=")
    open_run("hostile")
    expect(page.locator(".heat-rows li")).to_have_count(len(HOSTILE))
    expect(page.locator(".heat-rows")).to_contain_text("\\u202e")
    for layer in range(len(HOSTILE)):
        page.locator(f".heat-rows button[data-row='{layer}']").click()
    expect(page.locator(".layer").nth(3)).to_be_visible()
    page.locator("#sanitize").click()
    expect(page.locator("#ask tbody tr")).to_have_count(len(HOSTILE))
    page.keyboard.press("Escape")
    chart = page.locator(".layer .chart-box").first
    chart.scroll_into_view_if_needed()
    chart.hover()
    assert page.evaluate("window.hit") is None
    assert page.locator("img, #app script, a[href^='javascript']").count() == 0
    assert page.locator(".plot a").count() == 0
    assert page.evaluate("({}).hit") is None


def test_a_name_of_ten_thousand_letters_is_elided(open_run: Callable[..., Page], page: Page, hostile: Trainer) -> None:
    """It pushes nothing off the screen, and its title tells the rest."""
    open_run("hostile")
    expect(page.locator(".heat-rows li")).to_have_count(len(HOSTILE))
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    longest = page.evaluate("Math.max(...[...document.querySelectorAll('.path')].map((e) => e.textContent.length))")
    assert longest < 200

"""A run as it happens."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from scripted import LAYERS, Trainer
from watching import until

MAGENTA = """() => {
  const canvas = document.querySelector("canvas.cells");
  const top = 12 * devicePixelRatio; // below the ribbon that sums up all layers
  const data = canvas.getContext("2d").getImageData(0, top, canvas.width, canvas.height - top).data;
  let found = 0;
  for (let i = 0; i < data.length; i += 4)
    if (data[i] > 150 && data[i + 1] < 90 && data[i + 2] > 80 && data[i + 3] > 200) found += 1;
  return found;
}"""
STRIP = """(id) => {
  const plot = document.querySelector(`[data-panel="${id}"] .plot`);
  const marks = (plot?.data ?? []).filter((trace) => trace.yaxis === "y9");
  return marks.flatMap((trace) => trace.x.map((x) => [trace.name, x]));
}"""
LAST = """(id) => {
  const plot = document.querySelector(`[data-panel="${id}"] .plot`);
  return Math.max(0, ...(plot?.data ?? []).flatMap((trace) => Array.from(trace.x ?? []).filter(Number.isFinite)));
}"""


def test_a_live_run_moves_without_reloading(open_run: Callable[..., Page], hire: Callable[..., Trainer]) -> None:
    """Numbers, charts and the verdict follow the trainer."""
    trainer = hire("moving")
    trainer.train(30)
    page = open_run("moving")
    page.evaluate("window.stayed = true")
    expect(page.locator(".chip")).to_have_text("Live")
    expect(page.locator(".numbers .main dd")).to_have_text("30")
    trainer.train(20)
    expect(page.locator(".numbers .main dd")).to_have_text("50")
    until(page, f"() => ({LAST})('loss') >= 50")
    assert page.evaluate("window.stayed") is True


def test_a_non_finite_value_is_seen_as_such(open_run: Callable[..., Page], hire: Callable[..., Trainer]) -> None:
    """On the strip of the chart with its kind, on the heatmap in its own pattern, in the numbers and the verdict."""
    trainer = hire("breaking")
    trainer.train(40)
    page = open_run("breaking")
    expect(page.locator(".verdict .badge")).to_have_text("Healthy")
    trainer.break_layers(LAYERS[2])
    trainer.train(15)
    expect(page.locator(".verdict .badge")).to_have_text("Critical")
    expect(page.locator(".verdict h1")).to_contain_text("41")
    page.locator("[data-panel=running_var]").first.scroll_into_view_if_needed()
    until(page, f"() => ({STRIP})('running_mean').some(([name, x]) => name === 'NaN' && x === 41)")
    until(page, f"() => ({STRIP})('running_var').some(([name, x]) => name === '+Inf' && x === 41)")
    until(page, f"() => ({MAGENTA})() > 0")
    expect(page.locator(".heat-rows li").first).to_contain_text("local_conv.1")
    expect(page.locator(".layer h2")).to_contain_text(LAYERS[2])
    expect(page.locator("button.event[data-type=nonfinite]")).to_have_count(1)


def test_one_bad_step_among_thousands_is_seen_at_any_zoom(
    open_run: Callable[..., Page], hire: Callable[..., Trainer]
) -> None:
    """Aggregation never hides a fault: one step in 6,000, over the whole run and close by."""
    trainer = hire("needle")
    trainer.train(4000)
    trainer.break_layers(LAYERS[1])
    trainer.train(1)
    trainer.repair()
    trainer.train(1999)
    trainer.settle(30)
    for query in ("", "?from=3000&to=5000", "?from=3990&to=4010", "?from=0&to=4100"):
        page = open_run("needle", query, "running_mean")
        until(page, f"() => ({STRIP})('running_mean').some(([name]) => name === 'NaN')")
        until(page, f"() => ({MAGENTA})() > 0")
    page = open_run("needle", "?from=100&to=3000", "running_mean")
    until(page, f"() => ({LAST})('running_mean') > 2900")
    assert page.evaluate(STRIP, "running_mean") == []


def test_zoom_and_cursor_are_shared_and_in_the_address(
    open_run: Callable[..., Page], hire: Callable[..., Trainer]
) -> None:
    """Every chart has the same range, and the address brings it back."""
    trainer = hire("zoomed")
    trainer.train(400)
    page = open_run("zoomed", "?from=100&to=200")
    until(
        page,
        """() => [...document.querySelectorAll(".chart .plot")].filter((plot) => plot._fullLayout)
          .every((plot) => Math.abs(plot._fullLayout.xaxis.range[0] - 100) < 1)""",
    )
    page.locator("body").press("s")
    expect(page).to_have_url(re.compile("from=50&to=250"))
    page.locator("body").press("d")
    expect(page).to_have_url(re.compile("from=100&to=300"))
    chart = page.locator("[data-panel=loss] .chart-box").bounding_box()
    assert chart is not None
    page.mouse.click(chart["x"] + chart["width"] / 2, chart["y"] + chart["height"] / 2)
    expect(page).to_have_url(re.compile("step="))
    expect(page.locator(".chip")).to_contain_text("Paused")
    page.get_by_role("button", name="Back to live").click()
    expect(page.locator(".chip")).to_have_text("Live")


def test_an_alert_appears_when_automatic_repair_repeats(
    open_run: Callable[..., Page], hire: Callable[..., Trainer]
) -> None:
    """And can be acknowledged, after which it says so."""
    trainer = hire("repeating")
    trainer.train(20)
    page = open_run("repeating")
    for _ in range(3):
        trainer.break_layers(LAYERS[0])
        trainer.train(2)
        trainer.repair()
        trainer.train(10)
    alert = page.locator(".alert", has_text="repeat").first
    expect(alert).to_be_visible()
    alert.get_by_role("button", name="Acknowledge").click()
    expect(alert).to_contain_text("seen")
    expect(alert.get_by_role("button", name="Acknowledge")).to_have_count(0)


def test_a_validation_without_a_valid_batch_is_in_the_chart(
    open_run: Callable[..., Page], hire: Callable[..., Trainer]
) -> None:
    """Valid and non-finite batches are bars; the refused checkpoint is on the timeline."""
    trainer = hire("validated")
    for _ in range(3):
        trainer.train(10)
        trainer.validate()
        trainer.checkpoint()
    trainer.break_layers(LAYERS[2])
    trainer.train(10)
    trainer.validate()
    trainer.checkpoint()
    page = open_run("validated", panel="validation_counts")
    until(
        page,
        """() => {
          const bars = document.querySelector("[data-panel=validation_counts] .plot")?.data ?? [];
          return bars.some((bar) => bar.y?.at(-1) === 8 && bar.name !== "valid");
        }""",
    )
    expect(page.locator("button.event[data-type=checkpoint].broken")).to_have_count(1)
    expect(page.locator("table")).to_contain_text(["refused"], use_inner_text=True)


def test_a_trainer_that_went_silent_is_not_a_lost_browser(
    open_run: Callable[..., Page], hire: Callable[..., Trainer]
) -> None:
    """The chip says which of the two connections is gone, and Sanitize says why it is disabled."""
    trainer = hire("silent")
    trainer.train(10)
    page = open_run("silent")
    expect(page.locator(".chip")).to_have_text("Live")
    trainer.close()
    expect(page.locator(".chip")).to_contain_text("Trainer silent")
    expect(page.locator("#sanitize")).to_be_disabled()
    expect(page.locator("#sanitize-why")).to_have_text("the trainer is offline")


@pytest.mark.parametrize(
    "context", [{"reduced_motion": "reduce", "viewport": {"width": 360, "height": 740}}], indirect=True
)
def test_the_page_fits_a_narrow_screen(open_run: Callable[..., Page], hire: Callable[..., Trainer]) -> None:
    """Nothing sticks out to the right at 360 pixels."""
    trainer = hire("narrow")
    trainer.train(30)
    page = open_run("narrow")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360

"""What happened beside the model: how a run ended, what was lost, what the server cannot do. Shown as what it is."""

import re
import sqlite3
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from program import Program, serving
from scripted import Trainer
from watching import until

Open = Callable[..., Page]
Hire = Callable[..., Trainer]

# Whether any line of a chart joins two points between which lies a step, and the shading there.
JOINED = """([id, from, to]) => {
  const plot = document.querySelector(`[data-panel="${id}"] .plot`);
  const lines = (plot?.data ?? []).filter((trace) => trace.mode?.startsWith("lines") && trace.yaxis !== "y9");
  if (!plot?._fullLayout || lines.length === 0 || !lines.some((line) => line.x.some((x) => x > to))) return null;
  return lines.filter((line) => {
    for (let i = 1; i < line.x.length; i++) {
      const whole = line.y[i - 1] !== null && line.y[i] !== null && line.x[i - 1] !== null && line.x[i] !== null;
      if (whole && line.x[i - 1] <= from && line.x[i] >= to) return true;
    }
    return false;
  }).length;
}"""
SHADED = """([id, step]) => {
  const box = document.querySelector(`[data-panel="${id}"]`);
  const { _fullLayout: full } = box?.querySelector(".plot") ?? {};
  const canvas = box?.querySelector("canvas.overlay");
  if (!full?.xaxis || !canvas?.width) return 0;
  const [low, high] = full.xaxis.range;
  const ratio = canvas.width / full.width;
  const x = Math.round((full.xaxis._offset + ((step - low) / (high - low)) * full.xaxis._length) * ratio);
  const y = Math.round((full.yaxis._offset + 4) * ratio);
  const data = canvas.getContext("2d").getImageData(x - 1, y, 3, 24).data;
  return data.filter((_, i) => i % 4 === 3 && data[i] > 0).length;
}"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A server of this module's own: its database will be locked."""
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.mark.parametrize(
    ("run", "before", "query"),
    [("gap-close", 50, ""), ("gap-wide", 3000, ""), ("gap-zoomed", 3000, "?from=2900&to=3200")],
)
@pytest.mark.parametrize("known", [True, False], ids=["steps known", "steps unknown"])
def test_no_line_is_drawn_over_lost_records(
    open_run: Open, hire: Hire, run: str, before: int, query: str, known: bool
) -> None:
    """Close by and aggregated, whether the trainer knew the steps or not; the place is shaded."""
    run = f"{run}-{known}"
    trainer = hire(run)
    trainer.train(before)
    trainer.lose(3, 3, known=known)
    trainer.train(before)
    trainer.settle(30)
    page = open_run(run, query)
    assert until(page, f"(place) => ({JOINED})(place) === 0", ["loss", before, before + 4])
    assert until(page, f"(place) => ({SHADED})(place) > 10", ["loss", before + 2])


def test_a_gap_says_how_many_and_why(open_run: Open, hire: Hire) -> None:
    """In the chart's words, under the pointer, in the head, on the timeline, in the list of runs."""
    trainer = hire("explained")
    trainer.train(100)
    trainer.lose(60, 12_345, "the spool was <b>full</b>")
    trainer.train(100)
    trainer.spoil()
    trainer.train(40)
    trainer.settle()
    page = open_run("explained")
    expect(page.locator("[data-panel=loss] .plot")).to_have_attribute(
        "aria-label", re.compile("12,345 records lost in 1 gap")
    )
    head = page.locator(".losses")
    expect(head.locator("summary")).to_have_text("12,345 records lost in 1 gap; 1 record was set aside")
    head.locator("summary").click()
    expect(head).to_contain_text("12,345 records, steps 101 to 160: the spool was <b>full</b>")
    expect(head).to_contain_text("1 record set aside:")
    expect(page.locator(".timeline i.lost")).to_have_count(1)
    expect(page.locator(".cells")).to_have_attribute("aria-label", re.compile("12,345 records lost"))
    chart = page.locator("[data-panel=loss] .chart-box")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    place = page.evaluate(
        """() => {
          const { xaxis } = document.querySelector("[data-panel=loss] .plot")._fullLayout;
          return xaxis._offset + ((130 - xaxis.range[0]) / (xaxis.range[1] - xaxis.range[0])) * xaxis._length;
        }"""
    )
    page.mouse.move(box["x"] + place, box["y"] + box["height"] / 2)
    expect(chart.locator(".tip")).to_have_text("12,345 records lost, steps 101 to 160: the spool was <b>full</b>")
    page.locator("[data-panel=loss] .about summary").click()
    expect(page.locator("[data-panel=loss] .help")).to_contain_text("never drawn over")


def test_a_gap_that_comes_while_the_page_is_open_takes_effect_at_once(open_run: Open, hire: Hire) -> None:
    """Without a reload; and what follows it is drawn again."""
    trainer = hire("gap-live")
    trainer.train(60)
    trainer.settle()
    page = open_run("gap-live")
    page.evaluate("window.stayed = true")
    expect(page.locator(".losses")).to_have_count(0)
    trainer.lose(2, 2, known=False)
    trainer.train(60)
    assert until(page, f"(place) => ({JOINED})(place) === 0", ["loss", 60, 63])
    assert until(page, f"(place) => ({SHADED})(place) > 0", ["loss", 61.5])
    expect(page.locator(".losses summary")).to_have_text("2 records lost in 1 gap")
    assert page.evaluate("window.stayed") is True


def test_steps_thinned_on_purpose_are_no_gap(open_run: Open, hire: Hire) -> None:
    """Every one, then one in eight, then every one again: one line."""
    trainer = hire("thinned")
    trainer.train(60)
    for _ in range(40):
        trainer.step += 7
        trainer.train(1)
    trainer.train(100)
    trainer.settle()
    page = open_run("thinned")
    script = """() => {
      const lines = (document.querySelector("[data-panel=loss] .plot")?.data ?? []).filter((one) => one.yaxis !== "y9");
      return lines.length > 0 && lines[0].x.at(-1) > 400 && !lines[0].y.includes(null);
    }"""
    assert until(page, script)


HOSTILE = "ValueError: <img src=x onerror=window.hit=1>\u202e %{x} " + "x" * 5000
TRACE = 'Traceback (most recent call last):\n  File "train.py", line 12, in <module>\n' + HOSTILE


def test_the_exception_that_ended_a_run_is_on_its_page(open_run: Open, page: Page, hire: Hire) -> None:
    """Type, message and traceback, to read and to copy; text that stays text."""
    trainer = hire("raised")
    trainer.train(30)
    trainer.settle()
    page = open_run("raised")
    expect(page.locator(".blame")).to_have_count(0)
    trainer.finish("failed", HOSTILE, TRACE, "exception")
    block = page.locator(".blame.critical")
    expect(block.get_by_role("heading")).to_have_text("The run failed")
    expect(block.locator("> .text")).to_contain_text("ValueError: <img src=x")
    expect(block.locator("pre")).to_contain_text('File "train.py", line 12')
    expect(block.locator("pre")).to_contain_text("\\u202e")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    block.get_by_role("button", name="Copy").click()
    expect(page.locator("#toast")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == TRACE
    expect(page.locator("img[src=x]")).to_have_count(0)
    assert page.evaluate("window.hit") is None
    page.goto(page.url.split("/runs/")[0])
    row = page.locator("tr[data-run=raised]")
    expect(row.locator(".state")).to_have_text("failed")
    expect(row.locator(".reason")).to_contain_text("ValueError")


def test_where_training_hangs_is_on_the_page_until_it_goes_on(open_run: Open, hire: Hire) -> None:
    """The same kind of block; a frame ends it."""
    trainer = hire("hanging")
    trainer.train(30)
    trainer.settle()
    page = open_run("hanging")
    trainer.note("hung", 'no step ended for 35 s after step 30\n  File "train.py", line 7, in load_batch\n')
    block = page.locator(".blame.warning")
    expect(block.get_by_role("heading")).to_have_text("Training hangs")
    expect(block.locator("pre")).to_contain_text("load_batch")
    expect(page.locator(".timeline button.event[data-type=notice]")).to_have_attribute(
        "title", re.compile("no step ended for 35 s")
    )
    trainer.train(1)
    expect(block).to_have_count(0)


def test_a_dead_process_is_a_lost_run_with_its_reason(open_run: Open, page: Page, hire: Hire) -> None:
    """In the head, in the chip and in the list; never as health."""
    trainer = hire("orphan")
    trainer.train(30)
    text = "process 4711 on gpu-1 ended without a word (it was killed, or its machine stopped)"
    trainer.note("orphaned", text)
    trainer.close()
    page = open_run("orphan")
    expect(page.locator(".verdict")).to_contain_text(f"lost: {text}")
    expect(page.locator(".verdict .badge")).to_have_text("Warning")
    expect(page.locator(".chip")).to_contain_text("Trainer silent")
    page.goto(page.url.split("/runs/")[0])
    expect(page.locator("tr[data-run=orphan] .state")).to_have_text("lost")
    expect(page.locator("tr[data-run=orphan] .reason")).to_contain_text("process 4711 on gpu-1")


def test_a_rank_that_died_is_named_beside_the_run_that_goes_on(open_run: Open, hire: Hire) -> None:
    """Which, since when, and why."""
    zero, one = hire("ranked", world_size=2), hire("ranked", rank=1, world_size=2)
    zero.train(20)
    one.train(20)
    one.note("orphaned", "process 12 on gpu-2 ended without a word")
    one.close()
    page = open_run("ranked")
    expect(page.locator(".verdict .badge")).to_have_text("Critical")
    expect(page.locator(".verdict .rank")).to_have_text(
        re.compile("rank 1 lost at step 20: process 12 on gpu-2 ended without a word")
    )


def test_a_store_in_trouble_is_said_on_every_page_and_heals(
    open_run: Open, page: Page, hire: Hire, program: Program
) -> None:
    """The database is locked by another program, and then is not."""
    trainer = hire("stored")
    trainer.train(30)
    trainer.settle()
    page = open_run("stored")
    expect(page.locator(".banner")).to_have_count(0)
    (path,) = program.directory.glob("*.db")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        trainer.train(5)
        expect(page.locator(".banner.critical")).to_contain_text("cannot store anything", timeout=30_000)
        expect(page.locator(".banner")).to_contain_text("Trainers keep their records and send them again")
        expect(page.locator(".verdict .badge")).to_have_text("Unknown")
        expect(page.locator(".chip")).to_have_text("Not storing")
        page.goto(program.url)
        expect(page.locator(".banner.critical")).to_contain_text("cannot store anything")
    finally:
        other.execute("ROLLBACK")
        other.close()
    expect(page.locator(".banner")).to_have_count(0, timeout=30_000)
    trainer.settle(30)

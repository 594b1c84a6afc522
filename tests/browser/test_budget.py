"""A long run of many layers: what looking at it costs the connection, and that nothing planted in it is hidden."""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

import long_run
from program import Program, serving
from watching import until

STEPS, LAYERS = 20_000, 500
MEGABYTE = 1_000_000
QUERY = "?metric=gradient"

# Questions since the page began or `clearResourceTimings`: what each asked, and its bytes as they came over the wire.
ASKED = """() => performance.getEntriesByType("resource").filter((one) => one.name.includes("/api/")).map((one) => {
  const { pathname, searchParams } = new URL(one.name);
  return { what: pathname.split("/").pop(), from: searchParams.get("from"), bytes: one.transferSize };
})"""
# Both histories in sight, whatever was asked beside them.
SETTLED = (
    f"""() => ["heatmap", "data"].every((what) => ({ASKED})().some((one) => one.what === what && one.bytes > 0))"""
)
# The faulty colours and the brightest one in the cells of one row, each as the share of the row's width where it is.
ROW = """(row) => {
  const canvas = document.querySelector("canvas.cells");
  const { xaxis } = document.querySelector(".heat-plot .plot")._fullLayout;
  const ratio = devicePixelRatio;
  const [left, width] = [Math.round(xaxis._offset * ratio), Math.round(xaxis._length * ratio)];
  const height = 16 * ratio; // all of it: hatches have lines
  const { data } = canvas.getContext("2d").getImageData(left, (10 + 20 * row + 1) * ratio, width, height);
  const found = { nan: [], inf: [], bright: [] };
  for (let at = 0; at < width * height; at++) {
    const [r, g, b] = data.subarray(4 * at, 4 * at + 3);
    const place = (at % width) / width;
    if (r > 150 && g < 90 && b > 80) found.nan.push(place);
    else if (r > 180 && g > 60 && g < 140 && b < 60) found.inf.push(place);
    else if (r > 245 && g > 220 && b < 90) found.bright.push(place);
  }
  return { ...found, range: xaxis.range };
}"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A server that finds the long run in its database."""
    directory = tmp_path_factory.mktemp("server")
    long_run.fill(directory / "trainvitals.db", STEPS, LAYERS)
    with serving(directory) as server:
        yield server


def places(page: Page, kind: str, row: int) -> list[float]:
    """The steps at which a row of the heatmap has a kind of pixel, once it has any."""
    found = until(page, f"(row) => {{ const found = ({ROW})(row); return found.{kind}.length ? found : null; }}", row)
    low, high = found["range"]
    return [low + share * (high - low) for share in found[kind]]


def test_every_range_costs_a_megabyte_at_most(open_run: Callable[..., Page]) -> None:
    """Opening it, zooming in and panning: one map and one answer for the charts each, and nothing else."""
    page = open_run(long_run.RUN, QUERY)
    until(page, SETTLED)
    assert sum(one["bytes"] for one in page.evaluate(ASKED) if one["what"] in ("heatmap", "data")) <= MEGABYTE
    ranges = set()
    for key in ("w", "w", "w", "d", "s", "a"):
        expect(page.locator(".chip")).to_have_text("Trainer ended")
        page.evaluate("performance.clearResourceTimings()")
        page.locator("body").press(key)
        until(page, SETTLED)
        asked = page.evaluate(ASKED)
        assert sorted(one["what"] for one in asked) == ["data", "heatmap"]
        assert len({one["from"] for one in asked}) == 1, "charts and map show the same range"
        ranges |= {one["from"] for one in asked}
        assert sum(one["bytes"] for one in asked) <= MEGABYTE
    assert len(ranges) == 6, "each key shows another range"


@pytest.mark.parametrize(
    "ends", [None, (4_000, 18_000), (7_700, 15_100), (12_300, 12_400)], ids=["all", "most", "part", "close by"]
)
def test_what_is_planted_is_seen_at_every_zoom(open_run: Callable[..., Page], ends: tuple[int, int] | None) -> None:
    """One NaN, one infinity and one spike among ten million values; the worst layers come first."""
    low, high = ends or (0, STEPS)
    page = open_run(long_run.RUN, QUERY + (f"&from={low}&to={high}" if ends else ""))
    planted = [("nan", long_run.NAN), ("inf", long_run.INF), ("bright", long_run.SPIKE)]
    seen = [(kind, step, layer) for kind, (step, layer) in planted if low <= step <= high]
    slack = (high - low) / 100
    for row, (kind, step, layer) in enumerate(seen):
        expect(page.locator(f".heat-rows button[data-row='{row}']")).to_contain_text(long_run.name(layer))
        assert all(abs(place - step) <= slack for place in places(page, kind, row)), (kind, step)
    summary = re.compile(f"500 layers: {min(2, len([one for one in seen if one[0] != 'bright']))} with faults")
    expect(page.locator(".cells")).to_have_attribute("aria-label", summary)


def test_an_ended_run_that_is_only_looked_at_costs_heartbeats(open_run: Callable[..., Page], page: Page) -> None:
    """From one heartbeat to the next, nothing is asked."""
    beats: list[str] = []

    def hear(payload: str | bytes) -> None:
        if isinstance(payload, str):
            beats.append(payload)

    page.on("websocket", lambda socket: socket.on("framereceived", hear))
    page = open_run(long_run.RUN, QUERY)
    until(page, SETTLED)
    heartbeat(page, beats)
    page.evaluate("performance.clearResourceTimings()")
    beats.clear()
    heartbeat(page, beats)
    assert all('"heartbeat"' in one for one in beats), beats
    assert page.evaluate(ASKED) == []


def heartbeat(page: Page, heard: list[str]) -> None:
    """Wait until one has come."""
    for _ in range(1200):
        if any('"heartbeat"' in one for one in heard):
            return
        page.wait_for_timeout(50)
    raise TimeoutError(f"expected a heartbeat, got {heard!r}")

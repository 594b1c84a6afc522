"""The page's own arithmetic, in the browser, against the server's."""

import math
import struct
from collections.abc import Callable

from playwright.sync_api import Page

from program import Program
from scripted import LAYERS, Trainer
from watching import Watch

COARSENED = """async ([run, id, points]) => {
  const { getPacked } = await import("/static/link/api.js");
  const { decodeData } = await import("/static/link/packed.js");
  const { Buckets, FIELDS } = await import("/static/data/buckets.js");
  const ask = async (most) => {
    const path = `/api/runs/${run}/data?series=${id}&points=${most}&fields=${FIELDS}`;
    return decodeData(await getPacked(path));
  };
  const [coarse, raw] = [await ask(points), await ask(4000)];
  const buckets = Buckets.empty(1);
  const fine = raw.series.get(id);
  for (let i = 0; i < fine.step.length; i++) buckets.fold(fine.step[i], fine.last[i]);
  buckets.coarsen(coarse.width);
  const plain = (columns, length) =>
    Object.fromEntries(Object.entries(columns).map(([key, values]) => [key, [...values.slice(0, length)].map(String)]));
  const server = coarse.series.get(id);
  const page = plain(buckets.columns, buckets.length);
  return { width: coarse.width, server: plain(server, server.step.length), page };
}"""
DECODED = """async (bytes) => {
  const { decodeFrame, isPresent } = await import("/static/link/frames.js");
  const frame = decodeFrame(new Uint8Array(bytes).buffer);
  const values = [...frame.values].map((value, i) => (isPresent(frame.present, i) ? String(value) : "absent"));
  return { layout: frame.layout, step: frame.step, time: frame.time, rank: frame.rank, values };
}"""


def test_buckets_merged_in_the_browser_equal_those_of_the_store(
    page: Page, hire: Callable[..., Trainer], program: Program
) -> None:
    """Counters of what was not finite included."""
    trainer = hire("merged")
    trainer.train(700)
    trainer.break_layers(LAYERS[0])
    trainer.train(3)
    trainer.repair()
    trainer.train(300)
    trainer.settle()
    series = program.get("/api/runs/merged/series")["series"]
    wanted = next(one["id"] for one in series if one["layer"] == LAYERS[0] and one["stat"] == "running_var.max")
    both = page.evaluate(COARSENED, ["merged", wanted, 40])
    assert both["width"] == 16
    assert both["page"] == both["server"]
    assert both["page"]["n_posinf"].count("3") == 1


def test_a_binary_frame_is_decoded_with_its_absent_columns(page: Page) -> None:
    """Absent is not NaN."""
    header = struct.pack("<IIIIddII", 0x31465654, 7, 4, 1, 12345.0, 1.5e9, 3, 0)
    data = header + struct.pack("<4f", 1.5, math.nan, math.inf, 0.0) + bytes([0b0111])
    decoded = page.evaluate(DECODED, list(data))
    assert decoded["values"] == ["1.5", "NaN", "Infinity", "absent"]
    assert (decoded["layout"], decoded["step"], decoded["time"], decoded["rank"]) == (7, 12345, 1.5e9, 3)


JOINED = """async ([seed, rounds]) => {
  const { breaks } = await import("/static/data/gaps.js");
  const { Buckets } = await import("/static/data/buckets.js");
  let state = seed;
  const random = (below) => {
    state = (state * 1103515245 + 12345) % 2147483648;
    return Math.floor((state / 2147483648) * below);
  };
  const wrong = [];
  for (let round = 0; round < rounds; round++) {
    const buckets = Buckets.empty(1);
    const gaps = [];
    const lost = [];
    const stride = 1 + random(3);
    let step = random(50);
    for (let part = 0; part < 6; part++) {
      for (let n = 1 + random(40); n > 0; n--) (buckets.fold(step, 1), (step += stride));
      const missing = 1 + random(part % 2 ? 3 : 90);
      const before = step - stride;
      for (let k = 0; k < missing; k++) (lost.push(step), (step += stride));
      const known = random(2) === 0;
      const ends = known ? [lost[lost.length - missing], step - stride] : [before, step];
      gaps.push({ from: ends[0], to: ends[1], count: missing });
    }
    buckets.fold(step, 1);
    for (let width = 1; width <= 64; width *= 2) {
      buckets.coarsen(width);
      const broken = breaks(buckets, gaps);
      const { step: starts } = buckets.columns;
      for (let i = 1; i < buckets.length; i++) {
        const last = starts[i] + (width > 1 ? 0 : -1);
        if (!broken(i) && lost.some((at) => at >= starts[i - 1] && at <= last)) wrong.push([seed, round, width, i]);
      }
    }
  }
  return wrong.slice(0, 5);
}"""
DOUBT = """async (run) => {
  const { Board } = await import("/static/data/board.js");
  const board = new Board(run, () => {});
  board.charts.want([1]);
  board.receive({ type: "dropped", from: 5, to: 9 });
  const during = board.charts.gaps.map(({ from, to }) => [from, to]);
  const heat = board.heat.gaps.length;
  board.close();
  return { during, heat };
}"""


def test_no_two_buckets_are_joined_over_lost_steps_at_any_width(page: Page) -> None:
    """Random runs of any stride, with gaps of one step or many, whose steps are known or lie between two frames."""
    assert page.evaluate(JOINED, [7, 200]) == []


def test_frames_that_were_dropped_on_the_way_are_not_drawn_over_until_they_are_there(
    page: Page, hire: Callable[..., Trainer], watch: Watch
) -> None:
    """At once, in charts and heatmap; asking the store again settles it."""
    watch.allow("closed before the connection is established")  # by the test, at once
    trainer = hire("dropped")
    trainer.train(20)
    trainer.settle()
    assert page.evaluate(DOUBT, "dropped") == {"during": [[5, 9]], "heat": 1}

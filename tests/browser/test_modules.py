"""The page's own arithmetic, in the browser, against the server's."""

import math
import struct
from collections.abc import Callable

from playwright.sync_api import Page

from program import Program
from scripted import LAYERS, Trainer

COARSENED = """async ([run, id, points]) => {
  const { getData } = await import("/static/link/api.js");
  const { Buckets } = await import("/static/data/buckets.js");
  const range = { from: null, to: null };
  const coarse = await getData(run, [id], { ...range, points });
  const raw = await getData(run, [id], { ...range, points: 4000 });
  const buckets = new Buckets(1);
  const fine = raw.series.get(id);
  for (let i = 0; i < fine.step.length; i++) buckets.fold(fine.step[i], fine.first[i]);
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
    """Counters of what was not finite included; sums to rounding."""
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
    sums = [[float(value) for value in both[side].pop("sum")] for side in ("server", "page")]
    assert both["page"] == both["server"]
    assert both["page"]["n_posinf"].count("3") == 1
    assert all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(*sums, strict=True))


def test_a_binary_frame_is_decoded_with_its_absent_columns(page: Page) -> None:
    """Absent is not NaN."""
    header = struct.pack("<IIIIddII", 0x31465654, 7, 4, 1, 12345.0, 1.5e9, 3, 0)
    data = header + struct.pack("<4f", 1.5, math.nan, math.inf, 0.0) + bytes([0b0111])
    decoded = page.evaluate(DECODED, list(data))
    assert decoded["values"] == ["1.5", "NaN", "Infinity", "absent"]
    assert (decoded["layout"], decoded["step"], decoded["time"], decoded["rank"]) == (7, 12345, 1.5e9, 3)

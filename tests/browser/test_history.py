"""What the page holds of a run is what the store says, whatever way it came there."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page

from program import Program
from scripted import LAYERS, Trainer

Hire = Callable[..., Trainer]

# Both histories of a run, made by hand: of the metric `[id, kind, stat, bad]`, and of all series.
MADE = """async (run, [id, kind, stat, bad], series) => {
  const { Heat } = await import("/static/data/heat.js");
  const { Curves } = await import("/static/data/curves.js");
  const heat = new Heat(run, () => {});
  const curves = new Curves(run, () => {});
  const rows = series.filter((one) => one.kind === kind && one.stat === stat).map((one) => one.id);
  const load = () => Promise.all([heat.load(), curves.load()]);
  const ready = (pixels) => {
    heat.cover({ id, title: id, select: { kind, stat }, bad, scale: "log" }, rows, pixels);
    curves.want(series.map((one) => one.id));
    for (const one of [heat, curves]) window.clearTimeout(one.timer); // the test says when
  };
  const close = () => [heat, curves].forEach((one) => one.close());
  return { heat, curves, load, ready, close };
}"""
HELD = """({ heat, curves }) => [heat, curves].map((one) => ({
  width: one.width,
  series: Object.fromEntries([...one.series].map(([id, { columns, length }]) => [
    id,
    Object.fromEntries(Object.entries(columns).map(([name, some]) => [name, [...some.slice(0, length)].map(String)])),
  ])),
}))"""
BEGIN = f"""async ([run, metric, series, pixels]) => {{
  window.held = await ({MADE})(run, metric, series);
  window.held.ready(pixels);
  await window.held.load();
}}"""
AGAIN = f"""async ([run, metric, series, pixels]) => {{
  const begun = performance.getEntriesByType("resource").length;
  await window.held.load();
  const asked = performance.getEntriesByType("resource").slice(begun).map((one) => new URL(one.name));
  const fresh = await ({MADE})(run, metric, series);
  fresh.ready(pixels);
  await fresh.load();
  const answer = {{
    asked: asked.map((url) => [url.pathname.split("/").pop(), url.searchParams.has("since")]).sort(),
    held: ({HELD})(window.held),
    fresh: ({HELD})(fresh),
  }};
  fresh.close();
  return JSON.stringify(answer);
}}"""
# Frames as the live socket would bring them, of every step the store has.
FOLDED = f"""async ([run, metric, series, pixels]) => {{
  const {{ getPacked }} = await import("/static/link/api.js");
  const {{ decodeData }} = await import("/static/link/packed.js");
  const path = `/api/runs/${{run}}/data?points=4000&fields=last&series=${{series.map((one) => one.id)}}`;
  const raw = decodeData(await getPacked(path)).series;
  const [{{ step }}] = raw.values();
  const {{ heat, curves }} = window.held;
  const known = [...heat.series.values()][0].through;
  for (let i = 0; i < step.length; i++) {{
    const values = Float32Array.from(series, (one) => raw.get(one.id).last[i]);
    const frame = {{ layout: 0, step: step[i], time: 0, rank: 0, values, present: null }};
    for (const one of [heat, curves]) one.fold(frame, series.map((one) => one.id));
  }}
  const folded = ({HELD})(window.held);
  const fresh = await ({MADE})(run, metric, series);
  fresh.ready(pixels);
  await fresh.load();
  const answer = {{ known, held: folded, fresh: ({HELD})(fresh) }};
  fresh.close();
  return JSON.stringify(answer);
}}"""
METRICS = {
    "high": ["running_var", "norm", "running_var.max", "high"],
    "low": ["headroom", "input", "headroom", "low"],
    "counted": ["nonfinite", "norm", "nonfinite_channels", "high"],
}
PIXELS = 300


def told(page: Page, script: str, question: list[Any]) -> Any:
    """What the script answers, as text: Playwright takes seconds to carry half a million values one by one."""
    return json.loads(page.evaluate(script, question))


def near(held: Any, fresh: Any) -> None:
    """Raise AssertionError unless both hold the same; the map's values come rounded to 12 bits."""
    for mine, theirs in zip(held, fresh, strict=True):
        assert mine["width"] == theirs["width"]
        assert mine["series"].keys() == theirs["series"].keys()
        for one, columns in theirs["series"].items():
            for name, expected in columns.items():
                found = mine["series"][one][name]
                if name == "value":
                    assert [float(v) for v in found] == pytest.approx(
                        [float(v) for v in expected], rel=2**-12, nan_ok=True
                    )
                else:
                    assert found == expected, (one, name)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("start", [200, 700], ids=["every step", "aggregated"])
def test_what_is_asked_since_equals_what_is_asked_whole(
    page: Page, hire: Hire, program: Program, metric: str, start: int
) -> None:
    """After more steps, with a fault among them, and after so many that buckets are twice as wide; only the last is
    asked for in full."""
    run = f"since-{metric}-{start}"
    trainer = hire(run)
    trainer.train(start)
    trainer.settle()
    series = program.get(f"/api/runs/{run}/series")["series"]
    question = [run, METRICS[metric], series, PIXELS]
    page.evaluate(BEGIN, question)
    trainer.train(20)
    trainer.break_layers(LAYERS[1])
    trainer.train(5)
    trainer.repair()
    trainer.train(15)
    trainer.settle()
    answer = told(page, AGAIN, question)
    assert answer["asked"] == [["data", True], ["heatmap", True]]
    near(answer["held"], answer["fresh"])
    trainer.train(start * 2)
    trainer.settle()
    answer = told(page, AGAIN, question)
    near(answer["held"], answer["fresh"])


@pytest.mark.parametrize("metric", METRICS)
def test_frames_folded_as_they_come_equal_what_is_asked(page: Page, hire: Hire, program: Program, metric: str) -> None:
    """From a few steps to many times as many, the buckets widening several times on the way."""
    run = f"folded-{metric}"
    trainer = hire(run)
    trainer.train(37)
    trainer.settle()
    series = program.get(f"/api/runs/{run}/series")["series"]
    question = [run, METRICS[metric], series, PIXELS]
    page.evaluate(BEGIN, question)
    trainer.train(300)
    trainer.break_layers(LAYERS[3])
    trainer.train(300)
    trainer.repair()
    trainer.train(900)
    trainer.settle()
    answer = told(page, FOLDED, question)
    assert answer["known"] == 37
    near(answer["held"], answer["fresh"])


def test_a_series_that_was_let_go_is_asked_for_in_full(page: Page, hire: Hire, program: Program) -> None:
    """The mark of an answer stands for what is still here."""
    trainer = hire("let-go")
    trainer.train(50)
    trainer.settle()
    series = program.get("/api/runs/let-go/series")["series"]
    question = ["let-go", METRICS["high"], series, PIXELS]
    page.evaluate(BEGIN, question)
    page.evaluate(
        """([run, [id, kind, stat, bad], series, pixels]) => {
          const { heat, curves, ready } = window.held;
          curves.want([series[0].id]);
          heat.cover({ id, title: id, select: { kind: "run", stat: "loss" }, bad, scale: "log" }, [1], pixels);
          ready(pixels);
        }""",
        question,
    )
    answer = told(page, AGAIN, question)
    assert answer["asked"] == [["data", False], ["heatmap", False]]
    near(answer["held"], answer["fresh"])

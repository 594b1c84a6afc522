"""One seed, three ways: the hook off, automatic repair, and a hand on the Sanitize button. Prints their PSNR series.

`python examples/wavessm/three_ways.py`. The button is pressed over the server's HTTP interface, as the page presses it:
whenever the server shows a corrupt layer that no earlier press is still dealing with.
"""

import argparse
import json
import sys
import tempfile
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trainvitals_server.cli.failure import Failure
from trainvitals_server.cli.text import table
from trainvitals_server.demo.child import Child
from trainvitals_server.demo.example import check_installed, start_example
from trainvitals_server.demo.serving import Serving, serving

LOOK_EVERY = 0.1  # seconds between two looks at the run
SETTLED = {"verified", "refused", "failed", "expired", "unknown"}

Point = dict[str, Any]
Attend = Callable[[Child, Serving, str], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Train three times and print the table (with `--json` one object). Returns the exit code."""
    options = parse(argv)
    try:
        check_installed()
        with tempfile.TemporaryDirectory(prefix="trainvitals-") as folder, serving(Path(folder), 0) as server:
            series = {way: follow(server, way, options) for way in WAYS}
    except Failure as failure:
        print(f"three_ways.py: {failure}", file=sys.stderr)
        return failure.code
    print(json.dumps(series) if options.json else compare(series))
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="three_ways.py", description="PSNR without, with automatic, by hand.")
    parser.add_argument("--iters", type=int, default=400, metavar="N", help="iterations of each run (400)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="seed of all three (1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    return parser.parse_args(argv)


def wait(trainer: Child, server: Serving, run: str) -> None:
    """Leave the run alone until it ends."""
    trainer.wait()


def press(trainer: Child, server: Serving, run: str) -> None:
    """Press Sanitize whenever the server shows a corrupt layer, until the run ends."""
    pressed: Point | None = None
    while trainer.wait(LOOK_EVERY) is None:
        if pressed is not None and pressed["state"] not in SETTLED:
            pressed = server.api.get(f"/api/runs/{run}/commands/{pressed['id']}")
            continue
        shown = [line for line in server.api.get("/api/runs")["runs"] if line["id"] == run]
        if shown and shown[0]["nonfinite_layers"]:
            print(f"pressing Sanitize at step {shown[0]['step']:.0f}", file=sys.stderr)
            pressed = press_once(trainer, server, run)


def press_once(trainer: Child, server: Serving, run: str) -> Point | None:
    """The command, or None where the run ended before it could be sent. Raises `Failure` for any other refusal."""
    body = {"action": "sanitize", "strategy": "restore", "key": uuid.uuid4().hex}
    try:
        return server.api.post(f"/api/runs/{run}/commands", body)
    except Failure:
        if trainer.wait(LOOK_EVERY) is None:
            raise
        return None


# How the trainer is started, and what is done while it runs.
WAYS: dict[str, tuple[list[str], Attend]] = {
    "hook off": (["--mode", "disabled"], wait),
    "automatic": (["--auto_sanitize", "restore"], wait),
    "button": (["--auto_sanitize", "off"], press),
}


def follow(server: Serving, way: str, options: argparse.Namespace) -> list[Point]:
    """Train one way; its validations as the trainer itself saw them. Raises `Failure` where the trainer ends badly."""
    given, attend = WAYS[way]
    run = f"{way.replace(' ', '-')}-{uuid.uuid4().hex[:8]}"
    diary = server.directory / f"{run}.json"
    chosen = ["--iters", str(options.iters), "--seed", str(options.seed), "--json_out", str(diary), *given]
    print(f"training: {way}", file=sys.stderr)
    trainer = start_example(server.directory, run, chosen, lambda line: print(f"  {line}", file=sys.stderr))
    try:
        attend(trainer, server, run)
    finally:
        trainer.stop()
    if trainer.code:
        raise Failure(f"{way}: the trainer ended with exit code {trainer.code}: {trainer.last_words}")
    points: list[Point] = json.loads(diary.read_text())["validations"]
    return points


def compare(series: dict[str, list[Point]]) -> str:
    """A row per validation, a column per way: PSNR in dB, or how few batches were valid."""
    rows = [[points[0]["step"], *map(_cell, points)] for points in zip(*series.values(), strict=True)]
    return table(["step", *series], rows)


def _cell(point: Point) -> str:
    return f"{point['psnr']:.2f}" if point["psnr"] is not None else f"{point['valid']} of {point['total']} valid"


if __name__ == "__main__":
    sys.exit(main())

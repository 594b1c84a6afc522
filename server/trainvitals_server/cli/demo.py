"""Start a server and the example that breaks and recovers, and open the page.

Everything is kept in a folder of its own, so that a user's real runs are not touched. The server stays until Ctrl-C;
with `--exit` it ends with the run. With `--json` standard output carries one JSON object and nothing else.
"""

import argparse
import json
import secrets
import signal
import sys
import time
import webbrowser
from pathlib import Path
from types import FrameType
from typing import Any

from trainvitals.home import home
from trainvitals_server.cli.failure import Failure
from trainvitals_server.demo.child import Child
from trainvitals_server.demo.example import check_installed, start_example
from trainvitals_server.demo.progress import Progress
from trainvitals_server.demo.serving import Serving, serving
from trainvitals_server.demo.summary import describe, state_of, summarize, wait_until_committed

SHORT, LONG = 400, 2000  # iterations; long enough to look at the page and to press its button
LOOK_EVERY = 0.5  # seconds between two looks at how far the run is


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this verb."""
    add = parser.add_argument
    add("--port", type=int, default=8787, metavar="N", help="port of the server; 0 takes a free one (8787)")
    add("--iters", type=int, metavar="N", help="iterations of the example (2000, about a minute; 400 with --exit)")
    add("--seed", type=int, default=1, metavar="N", help="seed of the example (1)")
    add("--auto-sanitize", choices=["restore", "reset", "off"], default="restore", help="automatic repair (restore)")
    add("--no-browser", action="store_true", help="only print the address")
    add("--exit", action="store_true", help="end when the run has ended; opens no browser")
    add("--json", action="store_true", help="print one JSON object about the run")
    add("--directory", type=Path, metavar="DIR", help="where everything is kept (`demo` in the per-user directory)")


def run(options: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    if options.iters is None:
        options.iters = SHORT if options.exit else LONG
    if options.iters < 1:
        raise Failure(f"--iters: expected at least 1, got {options.iters}", code=2)
    check_installed()
    signal.signal(signal.SIGTERM, _interrupt)  # children are ended then, too
    progress = Progress(sys.stderr if options.json else sys.stdout)
    with serving(home(options.directory or home() / "demo"), options.port) as server:
        progress.line(f"The page: {server.api.post('/api/signin')['url']}")
        result = _train(server, options, progress)
        _report(result, options, progress)
        if not options.exit:
            _stay(server, progress)
    return 0


def _train(server: Serving, options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Run the example to its end and return what the server then knows of it."""
    run_id = f"demo-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    chosen = ["--iters", str(options.iters), "--seed", str(options.seed), "--auto_sanitize", options.auto_sanitize]
    trainer = start_example(server.directory, run_id, chosen, progress.line)
    try:
        _follow(trainer, server, run_id, options, progress)
    finally:
        progress.status("")
        trainer.stop()
    wait_until_committed(server, run_id)
    return summarize(server, run_id)


def _follow(trainer: Child, server: Serving, run_id: str, options: argparse.Namespace, progress: Progress) -> None:
    """Open the run's page when there is a run, and show how far it is until it ends. Raises `Failure` where it ends
    badly."""
    unseen = not (options.no_browser or options.exit)
    while trainer.wait(LOOK_EVERY) is None:
        known = state_of(server, run_id)
        progress.status(f"iteration {known['step'] or 0:.0f} of {options.iters}")
        if unseen and known["state"] != "unknown":
            unseen = False
            webbrowser.open(f"{server.api.post('/api/signin')['url']}#/runs/{run_id}")
    if trainer.code:
        raise Failure(f"the example ended with exit code {trainer.code}: {trainer.last_words}")


def _report(result: dict[str, Any], options: argparse.Namespace, progress: Progress) -> None:
    if options.json:
        print(json.dumps(result), flush=True)
        return
    for line in describe(result):
        progress.line(line)


def _stay(server: Serving, progress: Progress) -> None:
    """Serve until Ctrl-C. Raises `Failure` where the server ends by itself."""
    try:  # the line is inside: whoever reads it may press Ctrl-C before the wait has begun
        progress.line(f"The page stays at {server.url} until Ctrl-C.")
        code = server.child.wait()
    except KeyboardInterrupt:
        return
    raise Failure(f"the server ended with exit code {code}: {server.child.last_words}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)

"""Follow a run: its verdict and its events as they come; ends when the run ends."""

import argparse
import time

from trainvitals_server.cli import client, events
from trainvitals_server.cli.failure import warn
from trainvitals_server.cli.text import cell, safe, show_json

OVER = {"finished", "failed", "imported"}
PAUSE = 0.5  # seconds between two looks


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which run, and how to print."""
    parser.add_argument("target", metavar="RUN", help="id or name of a run, or the beginning of one")
    parser.add_argument("--json", action="store_true", help="print JSON, one object per line")
    client.arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Follow until the run is over. A server that goes away meanwhile is waited for."""
    with client.connect(options) as server:
        name = client.resolve(server, options.target)
        tail = Tail(server, name, as_json=options.json)
        while not tail.look():
            time.sleep(PAUSE)
    return 0


class Tail:
    """What has been printed of a run so far."""

    def __init__(self, server: client.Client, run: str, *, as_json: bool) -> None:
        self._server, self._run, self._json = server, run, as_json
        self._after: int | None = None
        self._said: tuple[object, ...] = ()
        self._away = False

    def look(self) -> bool:
        """Print what is new; whether the run is over and all of it has been printed."""
        try:
            summary = self._server.get(f"/api/runs/{self._run}")  # before the events: none is left behind at the end
            for event in events.follow(self._server, self._run, self._after):
                self._after = event["id"]
                show_json({"event": event}) if self._json else print(events.line(event), flush=True)
        except client.Unreachable as error:
            if not self._away:
                warn(f"{error}; waiting for it")
            self._away = True
            return False
        self._away = False
        self._say(summary)
        return summary["state"] in OVER

    def _say(self, summary: client.Object) -> None:
        """Print the verdict where it has changed, the step aside."""
        verdict = summary["verdict"]
        said = (summary["state"], verdict["level"], summary["first_bad_step"], summary["sanitizations"])
        if said == self._said:
            return
        self._said = said
        if self._json:
            show_json({"run": summary})
        else:
            print(f"{cell(summary['step']):>9}  {safe(summary['state']):<10}  {safe(verdict['text'])}", flush=True)

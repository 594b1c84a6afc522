"""Leave a run to `serve --retain` again."""

import argparse

from trainvitals_server.cli import pin


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which run, as for `pin`."""
    pin.arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Let it go."""
    return pin.change(options, pinned=False)

"""How long before the first non-finite number rules 1 to 4 fire, and how often they fire where nothing is wrong.

    python benchmarks/early_warning.py [--ramps 1 2 5 10 20 40] [--steps 300] [--only TEXT]

Every run is a real training under `trainvitals.watch(mode="offline")`; its spool is read back and judged by the
server's rules as stored records are. Of a ramp, `grows` is the number of steps from where the growth begins to the
first non-finite statistic, gradient, loss or output; `lead` how many of them are left when the first of rules 1 to 4
fires. Of a healthy run, `far` is the largest batch shift (rule 3 fires above 10, in 3 of 10 steps), `room` the least
fp16 headroom (rule 1 fires below 8).
"""

import argparse
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from healthy import RUNS, STEPS
from judged import early_findings, first_nonfinite, values_of, watched
from ramps import RAMPS, START, STEEPNESSES, Ramp, Run
from trainvitals import wire
from trainvitals_server.cli.text import table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the example's own network
LONGEST = 30  # doublings after which a ramp gives up


def main() -> None:
    """Run everything and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--ramps", type=float, nargs="*", default=STEEPNESSES, help="steps per doubling")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each healthy run")
    parser.add_argument("--only", default="", help="runs whose name contains this")
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    started = time.monotonic()
    ramps = {name: ramp for name, ramp in RAMPS.items() if args.only in name}
    rows = [lead(name, ramp, doubling) for name, ramp in ramps.items() for doubling in args.ramps]
    print(table(["ramp", "steps per doubling", "fired at", "rule", "non-finite at", "what", "grows", "lead"], rows))
    print()
    runs = {name: make for name, make in RUNS.items() if args.only in name}
    print(
        table(["healthy run", "far", "room", "alarms"], [alarms(name, make, args.steps) for name, make in runs.items()])
    )
    print(f"\n{time.monotonic() - started:.0f} s")


def lead(name: str, ramp: Ramp, doubling: float) -> list[str]:
    """One row: when a ramp was seen, and when it broke."""
    torch.manual_seed(0)
    records = watched(ramp(doubling), START + int(LONGEST * doubling))
    found, broken = early_findings(records), first_nonfinite(records)
    early = [finding for finding in found if finding.step <= START]
    row = [name, f"{doubling:g}"]
    if early:
        return [*row, str(early[0].step), f"{early[0].rule}, a false alarm", "", "", "", ""]
    fired = [str(found[0].step), found[0].rule] if found else ["never", ""]
    if broken is None:
        return [*row, *fired, "never", "", "", ""]
    ahead = str(broken.step - found[0].step) if found else ""
    return [*row, *fired, str(broken.step), broken.signal, str(broken.step - START), ahead]


def alarms(name: str, make: Callable[[], Run], steps: int) -> list[str]:
    """One row: what was said of a healthy run."""
    torch.manual_seed(0)
    records = watched(make(), steps)
    shifts, rooms = values_of(records, wire.BATCH_SHIFT), values_of(records, wire.HEADROOM)
    found = [f"{finding.rule} at {finding.step}" for finding in early_findings(records)]
    far, room = f"{np.max(shifts):.1f}" if len(shifts) else "-", f"{np.min(rooms):,.0f}" if len(rooms) else "-"
    return [name, far, room, ", ".join(found) or "0"]


if __name__ == "__main__":
    main()

"""Say how healthy a checkpoint file is, and repair the statistics in it.

Reads files of torch.save (plain or nested state dicts, of Lightning, Hugging Face and others), safetensors, and sharded
ones by their index or folder. Nothing in the file is executed. With `--fix` a copy with repaired running statistics is
written beside it, NAME_FIXED, everything else bit for bit. One that is there already and differs, since training may
have gone on in it, is replaced only with `--force`.

Exit code: 0 healthy (or healthy now), 1 statistics corrupted (fixable), 2 weights or optimizer state corrupted, 3
refused, unreadable or missing, 4 the process that reads it crashed.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from trainvitals.diagnose.parent import CrashedError, diagnose
from trainvitals.diagnose.report import CRASHED, REFUSED, Issue, RefusedError, Report
from trainvitals_server.cli.failure import Failure
from trainvitals_server.cli.text import cell, safe, show_json, table

LISTED = 50  # corrupt tensors shown; all of them with --json
SHOW_AFTER = 0.5  # seconds of reading before progress is shown
WIDTH = 30  # characters of the bar


def arguments(parser: argparse.ArgumentParser) -> None:
    """The file, and whether to repair it."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="a file, an index of shards, or a folder")
    parser.add_argument("--fix", action="store_true", help="write NAME_FIXED beside it, with repaired statistics")
    parser.add_argument("--force", action="store_true", help="replace a NAME_FIXED that is there already")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.usage_code = REFUSED  # type: ignore[attr-defined]  # 2 would say that weights are corrupt


def run(options: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    path: Path = options.checkpoint
    bar = Bar()
    try:
        report = diagnose(path, options.fix, bar.show, options.force)
    except (RefusedError, OSError, ValueError) as refused:  # a name too long, a folder that cannot be written
        raise Failure(f"{safe(path)}: refused: {safe(refused)}", code=REFUSED) from refused
    except CrashedError as crashed:
        raise Failure(f"{safe(path)}: {crashed}", code=CRASHED) from crashed
    finally:
        bar.clear()
    if options.json:
        show_json({"checkpoint": str(path), **msgspec.to_builtins(report), "verdict": verdict(report, path)})
    else:
        print("\n".join(describe(report, path, options.fix)))
    return report.exit_code


class Bar:
    """Progress on a terminal, once reading takes a while."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._shown = ""

    def show(self, done: int, total: int) -> None:
        """`done` of `total` bytes have been looked at."""
        if not sys.stderr.isatty() or time.monotonic() - self._started < SHOW_AFTER:
            return
        share = min(done / total, 1.0) if total else 1.0
        text = f"[{'#' * int(share * WIDTH):{WIDTH}}] {share:4.0%} of {total / 1e6:,.0f} MB"
        if text != self._shown:
            self._shown = text
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Leave no trace."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def describe(report: Report, path: Path, fix: bool) -> list[str]:
    """The table, the corrupt tensors, what was repaired, and the verdict."""
    lines = [groups(report)]
    lines += [f"  - {line(issue)}" for issue in report.issues[:LISTED]]
    if len(report.issues) > LISTED:
        lines.append(f"  ... and {len(report.issues) - LISTED} more (all of them with --json)")
    if report.kept:
        lines.append(f"Kept as they are, not looked into: {', '.join(map(safe, report.kept[:12]))}")
    if report.unjudged:
        lines.append(f"Not judged: {', '.join(map(safe, report.unjudged[:12]))}")
    lines += [f"[SANITIZE] Resetting corrupted {key.rpartition('.')[2]}: {safe(key)}" for key in report.repaired]
    if report.fixed is not None:
        lines.append(f"Sanitized {len(report.repaired)} BatchNorm statistics: {safe(report.fixed)}")
    elif fix:
        lines.append("Nothing to repair: no file was written.")
    return [*lines, verdict(report, path)]


def groups(report: Report) -> str:
    """One row per group of tensors."""
    heads = ("GROUP", "TENSORS", "ELEMENTS", "NAN", "INF", "NEGATIVE", "VERDICT")
    rows: list[tuple[Any, ...]] = []
    for group in ("statistics", "weights", "ema", "optimizer", "other"):
        if (one := report.groups.get(group)) is not None:
            bad = [issue for issue in report.issues if issue.group == group]
            word = f"{len(bad)} corrupted" if bad else "not judged" if group == "other" else "OK"
            rows.append((group, one.tensors, one.elements, one.nan, one.inf, one.negative, word))
    return table(heads, rows) if rows else "It holds no tensors."


def line(issue: Issue) -> str:
    """One corrupt tensor."""
    counts = {"NaN": issue.nan, "+Inf": issue.posinf, "-Inf": issue.neginf, "negative variance": issue.negative}
    kinds = ", ".join(f"{number:,} {name}" for name, number in counts.items() if number)
    where = f" ({safe(issue.file)})" if issue.file else ""
    return f"{cell(issue.key, 200)}: {kinds} of {issue.total:,}, first at index {issue.first}{where}"


def verdict(report: Report, path: Path) -> str:
    """One sentence."""
    if report.serious:
        groups = " and ".join(sorted({issue.group for issue in report.serious}))
        best = path.with_name(f"{path.stem.removesuffix('_FIXED')}_best{path.suffix}")
        other = f"use {safe(best)}" if best.is_file() and best != path else "revert to an earlier checkpoint"
        still = ", and still there" if report.fixed else ""
        return (
            f"CORRUPTED {groups.upper()}: this is more serious{still}. Repairing statistics does not bring "
            f"them back; {other}."
        )
    if report.issues and report.fixed is None:
        return f"Statistics corrupted, weights OK: fixable. Run: trainvitals diagnose {safe(path)} --fix"
    return "Model health: OK" if report.fixed is None else f"Model health of {safe(report.fixed)}: OK"

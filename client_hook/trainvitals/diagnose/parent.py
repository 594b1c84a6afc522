"""Diagnosing: one child per file, and what it said put together."""

import filecmp
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from trainvitals.diagnose.report import Found, Message, Progress, RefusedError, Report
from trainvitals.diagnose.shards import Checkpoint, find

OnProgress = Callable[[int, int], None]  # bytes done, of how many


_decoder: "msgspec.json.Decoder[Message]" = msgspec.json.Decoder(Message)


class CrashedError(Exception):
    """The child ended without an answer; the message says how."""


def diagnose(
    path: Path, fix: bool = False, on_progress: OnProgress = lambda done, total: None, force: bool = False
) -> Report:
    """The health of the checkpoint at `path`, which is only read. With `fix`, where statistics are corrupt, a repaired
    copy is written beside it; a different one that is there already, in which training may have gone on, is replaced
    only with `force`. Raises `RefusedError` and `CrashedError`."""
    checkpoint = find(path)
    total = sum(file.stat().st_size for file in checkpoint.files)
    before, report = 0, Report()
    staging = _staging(checkpoint) if fix else None
    try:
        for file in checkpoint.files:
            size = file.stat().st_size
            target = None if staging is None else staging / file.name
            one = _run(file, target, lambda share, b=before, s=size: on_progress(b + int(share * s), total))  # type: ignore[misc]
            before += size
            for issue in one.issues:
                issue.file = file.name if checkpoint.folder is not None else ""
            report.add(one)
        if staging is not None and report.repaired:
            _finish(checkpoint, staging, force)
            report.fixed = str(checkpoint.fixed)
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
    return report


def _staging(checkpoint: Checkpoint) -> Path:
    """A new folder beside the original, for what is being written."""
    folder = checkpoint.fixed.with_name(f".{checkpoint.fixed.name}.{os.getpid()}.tmp")
    try:
        folder.mkdir()
    except OSError as error:
        raise RefusedError(f"{folder.parent}: cannot be written: {error.strerror}") from error
    return folder


def _finish(checkpoint: Checkpoint, staging: Path, force: bool) -> None:
    """What was staged takes its name; the other files of a folder join the fixed shards, so that it can be loaded as it
    is."""
    made, fixed = staging / checkpoint.path.name, checkpoint.fixed
    if checkpoint.folder is not None:
        made = staging
        for file in checkpoint.folder.iterdir():
            if file.is_file() and not (staging / file.name).exists():
                shutil.copy2(file, staging / file.name)
    if fixed.exists():
        if _is_same(made, fixed):
            return
        if not force or fixed.is_dir() != made.is_dir():
            reason = "it is there already and differs: training may have gone on in it; --force replaces it"
            raise RefusedError(f"{fixed.name}: {reason}")
        if fixed.is_dir():
            shutil.rmtree(fixed)
    made.replace(fixed)


def _is_same(one: Path, two: Path) -> bool:
    """Whether two files, or the files of two folders, hold the same bytes."""
    if one.is_file() and two.is_file():
        return filecmp.cmp(one, two, shallow=False)
    if not one.is_dir() or not two.is_dir():
        return False
    names = {file.name for folder in (one, two) for file in folder.iterdir()}
    return all((one / name).is_file() and _is_same(one / name, two / name) for name in names)


def _run(file: Path, target: Path | None, on_progress: Callable[[float], None]) -> Report:
    """Read one file in a child; `on_progress` is told the share of it that is done."""
    command = [sys.executable, "-m", "trainvitals.diagnose.child", str(file.absolute())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(  # noqa: S603 - our own interpreter and our own module
        [*command, *([str(target)] if target is not None else [])],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as process:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        last: Message | None = None
        try:
            for line in process.stdout:
                last = _decode(line)
                if isinstance(last, Progress):
                    on_progress(last.done / last.total if last.total else 1.0)
        except BaseException:
            process.kill()
            raise
    if isinstance(last, Found):
        return last.report
    if last is None or isinstance(last, Progress):
        raise CrashedError(f"the process that read it ended with {_ending(process.returncode)} and no answer")
    raise RefusedError(last.reason)


def _decode(line: bytes) -> Message | None:
    try:
        return _decoder.decode(line)
    except msgspec.MsgspecError:
        return None  # half a line of a child that died


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"

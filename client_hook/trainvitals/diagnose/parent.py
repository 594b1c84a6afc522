"""Diagnosing: one child per file, and what it said put together."""

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


def diagnose(path: Path, fix: bool = False, on_progress: OnProgress = lambda done, total: None) -> Report:
    """The health of the checkpoint at `path`. With `fix`, where statistics are corrupt, a repaired copy is written
    beside it (an earlier one is replaced). Raises `RefusedError` and `CrashedError`; what is at `path` is only read."""
    checkpoint = find(path)
    total = sum(file.stat().st_size for file in checkpoint.files)
    before, report = 0, Report()
    staging = _staging(checkpoint) if fix and checkpoint.folder is not None else None
    try:
        for file in checkpoint.files:
            target = _target(checkpoint, file, staging) if fix else None
            size = file.stat().st_size
            one = _run(file, target, lambda share, b=before, s=size: on_progress(b + int(share * s), total))  # type: ignore[misc]
            before += size
            for issue in one.issues:
                issue.file = file.name if checkpoint.folder is not None else ""
            report.add(one)
        if report.repaired:
            report.fixed = str(checkpoint.fixed)
            if staging is not None:
                _finish(checkpoint, staging)
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
    return report


def _target(checkpoint: Checkpoint, file: Path, staging: Path | None) -> Path:
    return checkpoint.fixed if staging is None else staging / file.name


def _staging(checkpoint: Checkpoint) -> Path:
    if checkpoint.fixed.exists() and not checkpoint.fixed.is_dir():
        raise RefusedError(f"{checkpoint.fixed.name}: expected no file of that name beside it, there is one")
    folder = checkpoint.fixed.with_name(f".{checkpoint.fixed.name}.{os.getpid()}.tmp")
    try:
        folder.mkdir()
    except OSError as error:
        raise RefusedError(f"{folder.parent}: cannot be written: {error.strerror}") from error
    return folder


def _finish(checkpoint: Checkpoint, staging: Path) -> None:
    """The other files of the folder join the fixed shards, so that it can be loaded as it is."""
    assert checkpoint.folder is not None  # noqa: S101 - only folders are staged
    for file in checkpoint.folder.iterdir():
        if file.is_file() and not (staging / file.name).exists():
            shutil.copy2(file, staging / file.name)
    if checkpoint.fixed.exists():
        shutil.rmtree(checkpoint.fixed)
    staging.rename(checkpoint.fixed)


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

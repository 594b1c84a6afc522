"""The reading process: `python -m trainvitals.diagnose.child FILE [TARGET]`, messages on standard output, one a line.

It limits itself before it opens the file: memory, processor time, and the size of what it may write. Whatever becomes
of it, the parent goes on.
"""

import os
import resource
import sys
from pathlib import Path

import msgspec

from trainvitals.diagnose.fixing import fix
from trainvitals.diagnose.reading import Contents, read
from trainvitals.diagnose.report import (
    JUDGED,
    Found,
    Issue,
    Message,
    Progress,
    Refused,
    RefusedError,
    Report,
    Sum,
    plain,
)
from trainvitals.diagnose.tensors import judge

MEMORY = 2 << 30  # bytes beyond what the interpreter has at the start; a pickle of 256 MiB in small objects fits
SECONDS, BYTES_PER_SECOND = 60, 20_000_000  # of processor time: some, and more for a larger file


def main(arguments: list[str]) -> int:
    """Read, judge and, with a target, fix one file."""
    path = Path(arguments[0])
    target = Path(arguments[1]) if len(arguments) > 1 else None
    try:
        limit(path.stat().st_size, writes=target is not None)
        report = examine(path, target)
    except RefusedError as refused:
        return say(Refused(plain(str(refused))))
    except MemoryError:
        return say(Refused(f"reading it takes more than {MEMORY >> 30} GiB of memory"))
    except OSError as error:
        return say(Refused(plain(f"{error.strerror or error}")))
    except Exception as error:  # a file nobody thought of: refused like any other that cannot be read
        return say(Refused(plain(f"it cannot be read: {type(error).__name__}: {str(error).splitlines()[:1]}")))
    return say(Found(report))


def limit(size: int, writes: bool) -> None:
    """Bound what this process may use, once and for all."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    used = pages * os.sysconf("SC_PAGE_SIZE") if pages else 4 << 30
    seconds = SECONDS + size // BYTES_PER_SECOND
    bounds = (
        (resource.RLIMIT_AS, used + MEMORY),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, size if writes else 0),
        (resource.RLIMIT_CORE, 0),
    )
    for what, most in bounds:
        _, hard = resource.getrlimit(what)
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (bound, bound))


def examine(path: Path, target: Path | None) -> Report:
    """The report on one file, which is fixed into `target` where its statistics are corrupt. Raises `RefusedError`."""
    with path.open("rb") as file:
        contents = read(path, file)
        report = Report(kept=sorted(contents.kept), unjudged=contents.unjudged)
        judge_all(file, contents, report)
        corrupt = [issue.key for issue in report.issues if issue.group == "statistics"]
        if target is not None and corrupt:
            report.repaired = fix(path, target, contents, corrupt)
            report.fixed = plain(str(target))
    return report


def judge_all(file: object, contents: Contents, report: Report) -> None:
    """Every tensor's numbers into the report."""
    total = sum(named.place.bytes for named in contents.tensors)
    done = 0
    for named in contents.tensors:
        of_group = report.groups.setdefault(named.group, Sum())
        of_group.tensors += 1
        of_group.elements += named.place.elements
        if named.place.is_numeric:
            issue = Issue(named.key, named.group, named.place.elements)
            judge(file, named.place, issue, negative=named.group == "statistics" and named.statistic == "running_var")  # type: ignore[arg-type]
            if named.group in ("weights", "ema") and "mask" in named.key.rpartition(".")[2].lower():
                issue.posinf = issue.neginf = 0  # how attention masks say "not this one"
            of_group.nan += issue.nan
            of_group.inf += issue.posinf + issue.neginf
            of_group.negative += issue.negative
            if issue.count and named.group in JUDGED:
                report.issues.append(issue)
        done += named.place.bytes
        say(Progress(done, total))


def say(message: Message) -> int:
    """One line to the parent."""
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

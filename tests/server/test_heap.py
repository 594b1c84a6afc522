"""How many heaps the threads of a server have."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

THREADS = 8
COUNT = f"""
import ctypes, sys, threading
from pathlib import Path

def count(*given):
    together, libc = threading.Barrier({THREADS}), ctypes.CDLL(None)

    def work():
        kept = bytes(5000)
        together.wait()

    threads = [threading.Thread(target=work) for _ in range({THREADS})]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    libc.fopen.restype = ctypes.c_void_p
    file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
    libc.malloc_info(0, file)
    libc.fclose(file)
    print(Path(sys.argv[1]).read_text().count("<heap nr="))
"""
SERVE = """
from trainvitals_server import cli, service
service.run = count
cli.main(["serve"])
"""
pytestmark = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="needs glibc")


def arenas(script: str, home: Path, **environment: str) -> int:
    """What a process of its own counts, once that many threads have been at work together."""
    given = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    command = [sys.executable, "-c", COUNT + script, str(home / "arenas.xml")]
    told = subprocess.run(command, env=given | environment, capture_output=True, text=True, check=True)
    return int(told.stdout)


def test_the_threads_of_a_server_share_a_heap(private_home: Path) -> None:
    """Beside that of the event loop; by default each would have its own, and keep what it needed once."""
    assert arenas(SERVE, private_home) == 2
    assert arenas("count()", private_home) > 2


def test_the_environment_may_say_otherwise(private_home: Path) -> None:
    """As the C library reads it."""
    assert arenas(SERVE, private_home, MALLOC_ARENA_MAX="4") == 4

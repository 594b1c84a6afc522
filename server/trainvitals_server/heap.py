"""The C heap of a server that is up for weeks.

glibc gives each thread an arena of its own, and what is freed in one of them serves no other thread. The server's pool
of threads takes turns at reading and compacting, so for each of them it would keep the most that any of them ever
needed: 2 to 4 MiB, for as many threads as the machine has cores, and four. With two arenas, one of which is the event
loop's, it is kept once.
"""

import ctypes
import os
import sys
from contextlib import suppress

ARENAS = 2
M_ARENA_MAX = -8  # malloc.h


def share() -> None:
    """From now on all threads but the first share an arena, where the C library has any; not where the environment says
    how many there shall be. Call it before there are threads."""
    if sys.platform == "linux" and "MALLOC_ARENA_MAX" not in os.environ:
        with suppress(AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)

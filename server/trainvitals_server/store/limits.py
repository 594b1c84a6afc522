"""How large what is kept may be. A file may have been made by anybody, and a few bytes of zstd may say that they are
terabytes: nothing is unpacked, and no room is made for it, before it is known to be within these."""

MAX_BYTES = 64 << 20  # of one value, packed or not, and of all the values of one row of frames or of one span
MAX_FRAMES = 1 << 20  # in one row of frames or one span


def check_frames(n: int, width: int = 1) -> None:
    """Raise ValueError unless a row may hold `n` frames of `width` columns."""
    most = min(MAX_FRAMES, MAX_BYTES // (4 * max(width, 1)))
    if not 0 < n <= most:
        raise ValueError(f"expected 1 to {most} frames in a row, got {n!r:.40}")

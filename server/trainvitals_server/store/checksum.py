"""A checksum for what is kept as it came, not packed: SQLite's pages carry none, and a bit that flips on the disk would
be read as a value. What is packed has zstd's own."""

import zlib


def make(*blobs: bytes | None) -> int:
    """CRC-32 of blobs, one after another; None is nothing. Some 5 GB/s."""
    value = 0
    for blob in blobs:
        value = zlib.crc32(blob or b"", value)
    return value


def verify(kept: int | None, *blobs: bytes | None) -> None:
    """Raise ValueError unless these are the blobs that `kept` was made of. Rows of versions before have none."""
    if kept is not None and kept != (found := make(*blobs)):
        raise ValueError(f"damaged on the disk: expected checksum {kept!s:.20}, got {found}")

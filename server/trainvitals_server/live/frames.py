"""Frames as the live socket sends them: a 40-byte little-endian header, then float32 values, then perhaps the presence
bitmap, least significant bit first."""

import struct

from trainvitals_server.changes import Frame

MAGIC = 0x31465654  # "TVF1"
HAS_BITMAP = 1
HEADER = struct.Struct("<IIIIddII")  # magic, layout, n, flags, step, time, rank, reserved


def encode(frame: Frame) -> bytes:
    """The frame's message."""
    flags = HAS_BITMAP if frame.present is not None else 0
    head = HEADER.pack(MAGIC, frame.layout, len(frame.columns), flags, frame.step, frame.time, frame.rank, 0)
    return head + frame.values + (frame.present or b"")

"""Structured columns: MessagePack in, plain Python out."""

from typing import Any

import msgspec


def pack(value: Any) -> bytes:
    """Bytes of anything msgspec can encode; structs become maps."""
    return msgspec.msgpack.encode(value)


def unpack(data: bytes) -> Any:
    """What `pack` was given, as plain Python."""
    return msgspec.msgpack.decode(data)

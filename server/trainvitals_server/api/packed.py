"""Answers for the page: the length of a JSON header, the header, then arrays of numbers one after another."""

import struct
import zlib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from fastapi import Header
from starlette.responses import Response

from trainvitals_server.jsontext import dumps

BINARY = "application/octet-stream"
GZIP = 31  # zlib's number for a stream with gzip's header
LEVEL = 1  # the higher ones take far longer and save next to nothing on numbers
WORTH_IT = 1000  # bytes

Accept = Annotated[str, Header()]
Encodings = Annotated[str, Header(alias="accept-encoding")]


def pack(head: Mapping[str, Any], arrays: Iterable[bytes], align: int, encodings: str) -> Response:
    """The answer, the arrays beginning at a multiple of `align` bytes; compressed where the reader takes that."""
    first = dumps(head)
    first += b" " * (-(4 + len(first)) % align)
    body = b"".join([struct.pack("<I", len(first)), first, *arrays])
    headers = {"Vary": "Accept, Accept-Encoding"}
    if "gzip" in encodings and len(body) > WORTH_IT:
        packer = zlib.compressobj(LEVEL, wbits=GZIP)
        body = packer.compress(body) + packer.flush()
        headers["Content-Encoding"] = "gzip"
    return Response(body, headers=headers, media_type=BINARY)

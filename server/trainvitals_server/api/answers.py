"""Answers, and what handlers are given."""

from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import HTTPConnection
from starlette.responses import Response

from trainvitals_server.errors import RefusedError
from trainvitals_server.jsontext import dumps
from trainvitals_server.parts import Parts, parts_of


class Json(Response):
    """JSON with non-finite numbers spelled out."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The body."""
        return dumps(content)


async def _parts(connection: HTTPConnection) -> Parts:
    return parts_of(connection)


TheParts = Annotated[Parts, Depends(_parts)]


def unknown(what: str, value: object) -> RefusedError:
    """The refusal for an id that names nothing."""
    return RefusedError(404, f"expected the id of {what}, got {str(value)[:100]!r}")

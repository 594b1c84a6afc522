"""The page and its files, from the package `trainvitals_web`."""

import gzip
import hashlib
import mimetypes
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import NamedTuple

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from trainvitals_server.api.answers import unknown
from trainvitals_server.auth.guard import Principal
from trainvitals_server.auth.roles import needs

router = APIRouter(dependencies=[needs("public")], include_in_schema=False)

# Said here and not left to the machine's own tables, some of which call a module text/plain.
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
PACKED = ("text/", "application/json", "image/svg+xml")


class File(NamedTuple):
    """One file as it is sent."""

    body: bytes
    packed: bytes | None  # gzip, where it helps
    type: str
    etag: str


@router.get("/")
@router.get("/runs/{run}")
def show_page(request: Request) -> Response:
    """The page, for a browser that may see runs; the way to sign in, for others."""
    principal: Principal = request.state.principal
    if principal.role not in ("view", "control"):
        return RedirectResponse("/signin", 303)
    return send(request, "index.html")


@router.get("/static/{path:path}")
def show_file(request: Request, path: str) -> Response:
    """A file of the page. They hold nothing secret."""
    return send(request, f"static/{path}")


def send(request: Request, path: str) -> Response:
    """A file, or 304 where the browser has it. Raises `RefusedError` for what is not there."""
    source = find(path)
    if source is None:
        raise unknown("a file of the page", path)
    body = source.read_bytes()
    file = prepare(path, hashlib.sha256(body).hexdigest()[:32], body)
    headers = {"ETag": f'"{file.etag}"', "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if f'"{file.etag}"' in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if file.packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=file.type)
    return Response(file.body, headers=headers, media_type=file.type)


def find(path: str) -> Traversable | None:
    """The package's file of that name; None for anything else, such as a way out of the package."""
    place = resources.files("trainvitals_web")
    for part in path.split("/"):
        if part in ("", ".", "..") or "\\" in part or "\0" in part or part.startswith("__"):
            return None
        place = place / part
    return place if place.is_file() and not path.endswith(".py") else None


@lru_cache(maxsize=256)
def prepare(path: str, etag: str, body: bytes) -> File:
    """A file ready to be sent. Kept by its content, so that an edited file is prepared anew."""
    suffix = f".{path.rpartition('.')[2]}"
    kind = TYPES.get(suffix) or mimetypes.guess_type(path)[0] or "application/octet-stream"
    packed = gzip.compress(body, 6, mtime=0) if kind.startswith(PACKED) and len(body) > 1000 else None
    return File(body, packed, kind, etag)

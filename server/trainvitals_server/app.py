"""The application: every part wired together, and nothing else."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

import trainvitals_server
from trainvitals_server import compactor
from trainvitals_server.api import (
    alerts,
    carrying,
    commands,
    data,
    events,
    health,
    heatmap,
    keeping,
    moments,
    page,
    runs,
    signin,
)
from trainvitals_server.auth.body import BodyLimit
from trainvitals_server.auth.guard import Guard, refusal
from trainvitals_server.auth.headers import Headers
from trainvitals_server.auth.roles import check_routes
from trainvitals_server.clock import Clock
from trainvitals_server.errors import RefusedError, StoreBusyError
from trainvitals_server.ingest import socket as ingest_socket
from trainvitals_server.ingest import spools
from trainvitals_server.life import upkeep
from trainvitals_server.live import socket as live_socket
from trainvitals_server.live.announcer import Announcer
from trainvitals_server.notifications.sender import Sender
from trainvitals_server.parts import Parts, open_parts
from trainvitals_server.runs import ticker, warming
from trainvitals_server.settings import Settings
from trainvitals_server.store.database import DAMAGE, MISSHAPEN

ROOMS = (
    runs,
    data,
    heatmap,
    events,
    moments,
    alerts,
    commands,
    keeping,
    carrying,
    signin,
    health,
    page,
    ingest_socket,
    live_socket,
)
log = logging.getLogger("trainvitals.server")
REASONS = {
    404: "expected a path of this server, got another one",
    405: "expected a method this path knows, got another one",
}


def create_app(settings: Settings, clock: Clock | None = None) -> FastAPI:
    """The application, not yet started: nothing is opened before its lifespan begins. The parts are then in
    `app.state.parts`."""
    app = FastAPI(
        title="trainvitals",
        version=trainvitals_server.__version__,
        lifespan=lambda app: lifespan(app, settings, clock or Clock()),
        openapi_url=None,
        redirect_slashes=False,
    )
    for room in ROOMS:
        app.include_router(room.router)
    check_routes(app.routes)
    for middleware in (BodyLimit, Guard, Headers):  # the last is the outermost
        app.add_middleware(middleware)
    add_refusals(app)
    return app


def lifespan(app: FastAPI, settings: Settings, clock: Clock) -> AbstractAsyncContextManager[None]:
    """From the first request to the last."""

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        parts = app.state.parts = open_parts(settings, clock)
        tasks = [
            asyncio.create_task(ticker.run(parts)),
            asyncio.create_task(upkeep.run(parts)),
            asyncio.create_task(compactor.run(parts)),
            asyncio.create_task(warming.run(parts)),
            asyncio.create_task(Announcer(parts.hub, parts.summaries, clock, parts.writer.state).run()),
            asyncio.create_task(spools.run(settings)),
        ]
        if parts.targets:
            tasks.append(asyncio.create_task(Sender(parts).run()))
        try:
            yield
        finally:
            await stop(parts, tasks)

    return running()


async def stop(parts: Parts, tasks: list[asyncio.Task[None]]) -> None:
    """End the tasks, let the writer do what is queued, and close the database."""
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    parts.database.close()  # before the writer, whose connection can then fold the log into the database
    await asyncio.to_thread(parts.writer.close)


def add_refusals(app: FastAPI) -> None:
    """Every refusal is one line of JSON, over HTTP as over a websocket that is not accepted."""

    @app.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> Response:
        return refusal(error)

    @app.exception_handler(StoreBusyError)
    async def busy(_: Request, error: StoreBusyError) -> Response:
        return refusal(RefusedError(503, str(error)))

    async def damaged(request: Request, error: Exception) -> Response:
        what = [f"run {request.path_params['run']}"] if "run" in request.path_params else ["the database"]
        what += [f"series {request.query_params['series']}"] if "series" in request.query_params else []
        cause = error if isinstance(error, MISSHAPEN) else None  # says where: a mistake of ours may look the same
        log.error("%s of %s cannot be read: %s", request.url.path, ", ".join(what), error, exc_info=cause)
        detail = f"{', '.join(what)[:200]} cannot be read: {error}; `trainvitals check` says what else"
        return refusal(RefusedError(500, detail))

    for kind in DAMAGE:
        app.add_exception_handler(kind, damaged)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        answer = refusal(RefusedError(error.status_code, REASONS.get(error.status_code, str(error.detail))))
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return refusal(RefusedError(422, explain(error)))


def explain(error: RequestValidationError) -> str:
    """The first thing that is wrong with a request, in one line; what came is not repeated."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}"[:300]

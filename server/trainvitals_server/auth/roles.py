"""The role each route declares, as a dependency: `dependencies=[needs("view")]`. A route without one fails a test, and
`check_routes` keeps a server with such a route from starting."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from fastapi import Depends
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute

from trainvitals_server.auth.guard import Principal
from trainvitals_server.errors import RefusedError
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.parts import parts_of
from trainvitals_server.store import journal

Role = Literal["public", "ingest", "view", "control"]

# What a route declares -> who may use it.
GRANTED: dict[Role, tuple[str, ...]] = {
    "public": ("", "ingest", "view", "control"),
    "ingest": ("ingest",),
    "view": ("view", "control"),
    "control": ("control",),
}


class Needs:
    """A dependency that lets through who may use the route."""

    def __init__(self, role: Role) -> None:
        self.role = role

    async def __call__(self, connection: HTTPConnection) -> None:
        """Raise `RefusedError` for everybody else; who asked for control without having it is noted."""
        principal: Principal = connection.state.principal
        if principal.role in GRANTED[self.role]:
            return
        if not principal.role:
            raise RefusedError(401, f"expected a token for {self.role}, got none")
        detail = f"expected a token for {self.role}, got one for {principal.role}"
        if self.role == "control":
            await parts_of(connection).write(lambda tx: _note(tx, connection, principal, detail))
        raise RefusedError(403, detail)


def needs(role: Role) -> Any:
    """The dependency for a route."""
    return Depends(Needs(role))


def undeclared(routes: Sequence[BaseRoute]) -> Iterator[str]:
    """The paths of routes that declare no role."""
    for route in iter_route_contexts(routes):
        dependant = getattr(route, "dependant", None)
        if dependant is None or not any(isinstance(one.call, Needs) for one in _all(dependant)):
            yield str(route.path)


def check_routes(routes: Sequence[BaseRoute]) -> None:
    """Raise RuntimeError where a route declares no role."""
    missing = list(undeclared(routes))
    if missing:
        raise RuntimeError(f"expected every route to declare a role, got none for {', '.join(missing)}")


def _all(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for inner in dependant.dependencies:
        yield from _all(inner)


def _note(tx: Transaction, connection: HTTPConnection, principal: Principal, detail: str) -> None:
    run = connection.path_params.get("run")
    journal.audit(
        tx.connection,
        tx.now,
        role=principal.role,
        origin=principal.address,
        action=f"{connection.scope.get('method', 'websocket')} {connection.url.path}"[:300],
        run=None if run is None else str(run)[:200],
        command=None,
        outcome="denied",
        detail=detail,
    )

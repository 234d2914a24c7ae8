"""The application: a route a question, and what all share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import FastAPI, Path, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp

from atlas import wire
from atlas.errors import BadRequest, PolytopeError, ServerFailed, TooBusy, UnknownName, UsageError

from ..serving.limits import WAITING, Limits
from ..serving.questions import Question, questions
from ..serving.served import Served
from . import answers, problems
from .bodies import body_of, given, words_of
from .examples import example_of, live_values_of, values_of
from .gate import BODY_BYTES, BODY_SECONDS, Gate
from .metrics import Metrics

ABOUT = """Every question of `query` that reads, with the parameters of the Python function.

`Accept` chooses the form of a table: `application/json`, `application/vnd.apache.arrow.stream` or
`application/vnd.apache.parquet`. Errors are `application/problem+json`: a sentence that says what was given, what was
expected and what to do, and a `type` that stays the same."""

RETRY_SECONDS = 1

_log = logging.getLogger("polytope.http")

AtlasName = Annotated[str, Path(description="Name of an atlas that is served: that of its folder.")]


def create_app(
    served: Sequence[Served],
    limits: Limits,
    *,
    tokens: Sequence[str] = (),
    origins: Sequence[str] = (),
    loopback: bool = True,
    body_bytes: int = BODY_BYTES,
    body_seconds: float = BODY_SECONDS,
) -> ASGIApp:
    """The application that answers for some atlases.

    Args:
        served: the atlases, open, each under a name of its own.
        limits: what one answer may take, and how many are made at a time.
        tokens: one of which a request must bear; none for an open door.
        origins: pages elsewhere that a browser may ask from.
        loopback: whether only requests to this machine's own names are answered.
        body_bytes: of a request at most.
        body_seconds: until the body of a request is there.
    """
    door = _Door({one.name: one for one in served}, limits, closed=bool(tokens))
    app = FastAPIOffline(
        title="Polytope Atlas",
        version=version("polytope-atlas"),
        description=ABOUT,
        redoc_url=None,
        lifespan=door.lifespan,
        # Swagger UI would ask a server of its makers whether the page is valid.
        swagger_ui_parameters={"validatorUrl": None},
    )
    _add_routes(app, door)
    app.openapi = partial(_openapi, app, door)  # type: ignore[method-assign]
    app.add_exception_handler(PolytopeError, _problem)
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_exception_handler(Exception, _unforeseen)
    guarded: ASGIApp = Gate(
        app,
        tokens=tokens,
        loopback=loopback,
        watch=door.metrics.watch,
        body_bytes=body_bytes,
        body_seconds=body_seconds,
    )
    if origins:  # outside of the gate: a browser asks first without a token
        guarded = CORSMiddleware(
            guarded,
            allow_origins=[*origins],
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    return guarded


class _Door:
    """What the routes share: the atlases, the threads that ask them, and the count of what is under way."""

    def __init__(self, served: Mapping[str, Served], limits: Limits, *, closed: bool) -> None:
        self.served = served
        self.closed = closed
        self.limits = limits
        self.metrics = Metrics()
        first = next(iter(served.values())).atlas
        self.examples, self.live_examples = values_of(first), live_values_of(first)
        self._threads = ThreadPoolExecutor(limits.requests, "asked")
        self._under_way = 0

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        yield
        self._threads.shutdown(wait=False, cancel_futures=True)

    def named(self, name: str) -> Served:
        if name not in self.served:
            raise UnknownName(f"no atlas {name[:100]!r} is served here; there is {', '.join(self.served)}")
        return self.served[name]

    async def in_thread(self, work: Callable[[], Any]) -> Any:
        """What ``work`` returns, once a thread is free; `TooBusy` where too many wait for one."""
        if self._under_way >= self.limits.requests * (1 + WAITING):
            raise TooBusy(
                f"{self._under_way} requests are under way, and {self.limits.requests} are answered at a time; wait"
            )
        self._under_way += 1
        self.metrics.under_way.inc()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._under_way -= 1
            self.metrics.under_way.dec()

    async def answer(
        self, question: Question, model: type[BaseModel], name: str, document: bytes | Mapping[str, Any], accept: str
    ) -> Response:
        """The answer of a question to a request."""
        served = self.named(name)

        def work() -> answers.Encoded:
            forms = answers.accepted(accept)
            answer = served.ask(question.name, given(model, document, question))
            return answers.encode(answer, forms, self.limits.megabytes)

        encoded = await self.in_thread(work)
        if isinstance(encoded.content, bytes):
            return Response(encoded.content, media_type=encoded.media_type)
        return StreamingResponse(encoded.content, media_type=encoded.media_type)


def _add_routes(app: FastAPI, door: _Door) -> None:
    @app.get("/health", tags=["server"], summary="Whether the server and its atlases answer.")
    async def health() -> dict[str, str]:
        await door.in_thread(lambda: [served.alive() for served in door.served.values()])
        return {"status": "ok"}

    @app.get("/metrics", tags=["server"], summary="Counts and times, as Prometheus reads them.")
    async def metrics() -> Response:
        return Response(*door.metrics.page())

    @app.get("/v1", tags=["server"], summary="The atlases that are served, and the questions.")
    async def served() -> dict[str, list[str]]:
        return {"atlases": list(door.served), "questions": list(questions())}

    @app.get("/v1/{atlas}/thumbnail/{example}", tags=["cheap"], summary="The picture of an example, PNG or JPEG.")
    async def thumbnail(atlas: AtlasName, example: str) -> Response:
        if not (example.isascii() and example.isdigit()):
            raise UsageError(f"an example is named by its id, a whole number, got {example[:40]!r}")
        picture = await door.in_thread(partial(door.named(atlas).thumbnail, int(example[:12])))
        kind = "image/png" if picture.startswith(b"\x89PNG") else "image/jpeg"
        return Response(picture, media_type=kind)

    for question in questions().values():
        _add_question(app, door, question)


def _add_question(app: FastAPI, door: _Door, question: Question) -> None:
    model, words = body_of(question), words_of(question)

    async def post(request: Request, atlas: AtlasName) -> Response:
        return await door.answer(question, model, atlas, await request.body(), request.headers.get("accept", ""))

    async def get(request: Request, atlas: AtlasName) -> Response:
        assert words is not None
        named = dict(request.query_params)
        if len(named) < len(request.query_params.multi_items()):
            raise UsageError("a parameter is given twice; give each once")
        return await door.answer(question, words, atlas, named, request.headers.get("accept", ""))

    about: dict[str, Any] = {
        "summary": question.summary,
        "description": "\n\n".join(part for part in (question.text, f"Returns: {question.answer}") if part),
        "responses": _responses(question),
    }
    path = f"/v1/{{atlas}}/{question.name}"
    example = example_of(question, door.live_examples if question.reads({}) else door.examples)
    content: dict[str, Any] = {"schema": _schema(model)}
    if example is not None:
        content["example"] = example
    body = {"requestBody": {"content": {answers.JSON: content}, "required": False}}
    app.add_api_route(
        path, post, methods=["POST"], tags=["questions"], operation_id=question.name, openapi_extra=body, **about
    )
    if words is not None:
        schema = _schema(words)
        listed = [
            {
                "in": "query",
                "name": name,
                "required": name in schema.get("required", ()),
                "description": field.get("description", ""),
                "schema": {key: value for key, value in field.items() if key not in ("title", "description")},
            }
            | ({"example": example[name]} if example is not None and name in example else {})
            for name, field in schema["properties"].items()
        ]
        app.add_api_route(
            path,
            get,
            methods=["GET"],
            tags=["cheap"],
            operation_id=f"get_{question.name}",
            openapi_extra={"parameters": listed},
            **about,
        )


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    return schema


def _responses(question: Question) -> dict[int | str, dict[str, Any]]:
    forms: dict[str, Any] = {form: {} for form in answers.FORMS}
    found: dict[int | str, dict[str, Any]] = {
        200: {"description": question.answer or "The answer.", "content": forms}
    }
    for name, when in question.errors.items():
        kind = problems.ERRORS.get(name, PolytopeError)
        response = found.setdefault(problems.status_of(kind), {"description": "", "content": {wire.PROBLEM: {}}})
        response["description"] += f"{'; ' if response['description'] else ''}{name}: {when}"
    return found


def _openapi(app: FastAPI, door: _Door) -> dict[str, Any]:
    """The description of all routes, with the models of bodies and the names of the atlases."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        components = schema.setdefault("components", {}).setdefault("schemas", {})
        for question in questions().values():
            defined = body_of(question).model_json_schema(ref_template="#/components/schemas/{model}")
            components |= defined.get("$defs", {})
        for operations in schema["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None) if operation.get("tags") == ["server"] else None
                for parameter in operation.get("parameters", ()):
                    if parameter["in"] == "path" and parameter["name"] == "atlas":
                        parameter["schema"]["enum"] = list(door.served)
                        parameter["example"] = next(iter(door.served))
                    elif parameter["in"] == "path" and "pictured" in door.examples:
                        parameter["example"] = str(door.examples["pictured"])
        if door.closed:
            schema["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            schema["security"] = [{"token": []}]
        app.openapi_schema = schema
    return app.openapi_schema


# --- errors ----------------------------------------------------------------------------------------------------


def _problem_response(kind: type[PolytopeError], detail: str, status: int | None = None) -> Response:
    status = status or problems.status_of(kind)
    headers = {"Retry-After": str(RETRY_SECONDS)} if status in (429, 503) else {}
    return Response(problems.body(kind, detail, status), status, headers, wire.PROBLEM)


async def _problem(request: Request, error: Exception) -> Response:
    return _problem_response(type(error), str(error))  # type: ignore[arg-type]


async def _http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path[:100]
    if error.status_code == 404:
        return _problem_response(UnknownName, f"nothing is at {path!r}; `GET /v1` lists atlases and questions", 404)
    if error.status_code == 405:
        return _problem_response(BadRequest, f"{path!r} is not asked by {request.method[:20]}; POST a question", 405)
    return _problem_response(BadRequest, str(error.detail), error.status_code)


async def _unforeseen(request: Request, error: Exception) -> Response:
    _log.error("%s failed", request.url.path, exc_info=error)
    return _problem_response(ServerFailed, problems.UNFORESEEN)

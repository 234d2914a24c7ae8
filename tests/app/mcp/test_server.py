"""The tools of an assistant, asked with the client of the SDK: schemas, answers that fit, sentences, transports."""

from __future__ import annotations

import base64
import io
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from PIL import Image

import atlas
import query
from app.http.gate import Gate
from app.http.listening import configured
from app.mcp import texts
from app.mcp.server import LIMITS, AtlasServer, create_server
from app.serving.served import Served
from atlas import Atlas
from tests.app.explorer.browsing import CHROMIUM, IN_BROWSER
from tests.app.http.listening import ask

SITE = {"site": "blocks.3.mlp", "network": "words"}
TOKEN = "a-token-of-the-tests"

Tell = Callable[..., str]


@pytest.fixture(scope="module")
def server(built: Path) -> Iterator[AtlasServer]:
    with Served(built, "three", LIMITS) as served:
        yield create_server(served)


@pytest.fixture
def a(built: Path) -> Iterator[Atlas]:
    with atlas.open(built) as opened:
        yield opened


def in_loop(work: Callable[..., Any], *given: Any) -> Any:
    """In a thread of its own: Playwright's loop still runs in that of the tests where a browser was open."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(anyio.run, work, *given).result()


def called(server: Any, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
    """What the tools answer a client."""

    async def call() -> list[Any]:
        async with Client(server) as client:
            return [await client.call_tool(name, given) for name, given in calls]

    return in_loop(call)


@pytest.fixture
def tell(server: AtlasServer) -> Tell:
    def one(tool: str, **given: Any) -> str:
        [answer] = called(server, (tool, given))
        assert not answer.is_error, answer.content
        return "\n".join(part.text for part in answer.content if part.type == "text")

    return one


@pytest.fixture
def refuse(server: AtlasServer) -> Tell:
    def one(tool: str, **given: Any) -> str:
        [answer] = called(server, (tool, given))
        assert answer.is_error
        return str(answer.content[0].text)

    return one


def test_a_dozen_tools_are_described(server: AtlasServer) -> None:
    """Each with a sentence on when to use it, and a schema whose arguments are described."""
    tools = in_loop(server.list_tools)
    assert len(tools) == 12
    for tool in tools:
        assert tool.description and len(tool.description) > 60, tool.name
        assert tool.annotations is not None and tool.annotations.read_only_hint
        for name, argument in tool.input_schema["properties"].items():
            assert argument.get("description"), (tool.name, name)


def test_what_there_is_comes_first(tell: Tell, refuse: Tell) -> None:
    told = tell("describe")
    for words in ("words,text", "blocks.3.mlp", "Clusterings", "Maps", "Stored experiments"):
        assert words in told
    assert "is_on" in tell("describe", table="codes") or "code" in tell("describe", table="codes")
    assert "no table 'nothing'; there are" in refuse("describe", table="nothing")


def test_tools_tell_what_python_answers(tell: Tell, a: Atlas) -> None:
    near = query.nearest(a, example=20, k=3, **SITE)
    told = tell("nearest", example=20, k=3, **SITE)
    assert told.startswith("Nearest to example 20 at blocks.3.mlp of words, in")
    for row in near.itertuples():
        assert f"\n{row.rank},{row.example_id},{row.distance}," in told
    members = query.members(a, clustering=2, cluster=0)
    first = tell("members", clustering=2, cluster=0, limit=2)
    assert f"after={members['example_id'][1]}" in first
    second = tell("members", clustering=2, cluster=0, limit=2, after=int(members["example_id"][1]))
    assert f"\n{members['example_id'][2]}," in second
    clusters = query.clusters(a, clustering=2)
    told = tell("clusters", clustering=2, limit=1)
    assert f"{len(clusters)} clusters of clustering 2" in told and "offset=1" in told
    assert tell("membership", clustering=2, example=int(members["example_id"][0])).startswith("example")
    apart = query.gates_apart(a, 20, 21, **SITE)
    assert f"differ in {len(apart.gates)} of" in tell("compare_two", x=20, y=21, **SITE)
    assert "60" in tell("sql", query="select 59 + 1 as n")
    assert "There are more rows" in tell("sql", query="from range(100)", limit=5)
    assert tell("class_density", network="words", pairs=50).startswith("Polytope density by class")
    assert "(no rows)" in tell("experiment")


def test_errors_reach_the_assistant(refuse: Tell, built: Path) -> None:
    """In the words of Python; the SDK would hide them."""
    assert "no example 1000000" in refuse("nearest", example=10**6, **SITE)
    assert "DROP is not a query" in refuse("sql", query="drop table codes")
    assert "sql has no argument 'shape'; it takes query, limit" in refuse("sql", query="select 1", shape=1)
    assert "give one of layout, example and experiment" in refuse("figure")
    assert "no experiment 7 in three; it holds none" in refuse("experiment", number=7)
    assert str(built) not in refuse("members", clustering=99, cluster=0)
    assert "less than or equal to 200" in refuse("nearest", example=20, k=10**6, **SITE)


def test_answers_fit_a_context(tell: Tell) -> None:
    """Long cells are cut, and of many rows as many are told as fit."""
    told = tell("sql", query="select range as n, repeat('x', 5000) as long from range(150)", limit=150)
    assert len(told) < texts.LONGEST_TEXT + 500 and "rows are left out here" in told
    assert "x" * (texts.LONGEST_CELL - 1) + "…" in told and "x" * texts.LONGEST_CELL not in told


def test_codes_are_drawn_as_pictures(server: AtlasServer, a: Atlas) -> None:
    [answer] = called(server, ("figure", {"example": 20}))
    text, picture = answer.content
    assert "blocks.3.mlp" in text.text and picture.mime_type == "image/png"
    image = Image.open(io.BytesIO(base64.b64decode(picture.data)))
    raster = query.rasters(a, 20)[0]
    shades = [image.getpixel((6 * cell + 3, 3)) for cell in range(min(20, len(raster.values)))]
    assert [shade < 128 for shade in shades] == [value > 0.5 for value in raster.values[:20]]


def test_maps_and_experiments_are_told(measured_atlas: Path) -> None:
    with Served(measured_atlas, "measured", LIMITS) as served:
        listed, drawn, plot, table = called(
            create_server(served),
            ("experiment", {}),
            ("figure", {"experiment": 1}),
            ("figure", {"layout": 1}),
            ("experiment", {"number": 1, "limit": 1}),
        )
    assert "slice" in listed.content[0].text and "density" in listed.content[0].text
    for answer in (drawn, plot):
        assert base64.b64decode(answer.content[1].data).startswith(b"\x89PNG")
    assert "examples; colours: " in plot.content[0].text
    assert "Tables: " in table.content[0].text and "offset=1" in table.content[0].text


@IN_BROWSER[0]
@IN_BROWSER[1]
def test_figures_are_drawn_by_chrome(measured_atlas: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the explorer shows them, with all that stands below; a sentence where there is no Chrome."""
    monkeypatch.setenv("BROWSER_PATH", str(CHROMIUM))
    with Served(measured_atlas, "measured", LIMITS) as served:
        [density] = called(create_server(served), ("figure", {"experiment": 2}))
        text, picture = density.content
        assert text.text.startswith("experiment 2, density. ")
        image = Image.open(io.BytesIO(base64.b64decode(picture.data)))
        assert image.width == 900 and image.height > 400 and len(image.convert("RGB").getcolors(10**6)) > 20
        monkeypatch.setenv("BROWSER_PATH", "/nowhere/chrome")
        [none] = called(create_server(served), ("figure", {"experiment": 2}))
        assert none.is_error and "Chrome or Chromium draws this figure" in none.content[0].text


def test_an_assistant_starts_the_command(built: Path) -> None:
    """Over standard input and output."""
    line = ["-P", "-m", "app.cli.main", "mcp", str(built)]
    served = StdioServerParameters(command=sys.executable, args=line, env={**os.environ})
    [near] = called(served, ("nearest", {"example": 20, "k": 2, **SITE}))
    assert near.content[0].text.startswith("Nearest to example 20 at blocks.3.mlp of words")


def test_the_gate_stands_before_http(server: AtlasServer) -> None:
    """Streamable HTTP answers who bears a token, and nobody else."""
    app = Gate(server.streamable_http_app(), tokens=[TOKEN], loopback=True)

    async def call(url: str) -> Any:
        async with (
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}) as bearer,
            Client(streamable_http_client(url, http_client=bearer)) as client,
        ):
            return await client.call_tool("sql", {"query": "select 40 + 2 as n"})

    with socket.create_server(("127.0.0.1", 0)) as listening:
        running = configured(app, LIMITS, host="127.0.0.1", port=0)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
        try:
            assert "42" in in_loop(call, url).content[0].text
            assert ask(url, json.dumps({}).encode()).status == 401
        finally:
            running.should_exit = True
            thread.join()

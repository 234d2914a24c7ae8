"""The questions of `query` over HTTP: the same answers, in the form that the client accepts, the same sentences."""

from __future__ import annotations

import base64
import inspect
import io
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

import pandas as pd
import pyarrow as pa
import pytest

import atlas
import query
from app.http import server
from app.http.gate import read_tokens
from app.row_files import arrow_table, as_json
from app.serving.limits import Limits
from app.serving.questions import Question, questions
from atlas import Atlas
from atlas.errors import PolytopeError, SqlFailed, SqlRefused, UnknownName, UsageError, WidthError
from query.remote.arguments import types_of
from tests.app.http.listening import ask, serving

SITE = {"site": "blocks.3.mlp", "network": "words"}
SLOW = "select count(*) from range(100000000000) t(i) where hash(i) = 1"
TOKEN = "a-token-of-the-tests"


@pytest.fixture
def a(built: Path) -> Iterator[Atlas]:
    with atlas.open(built) as opened:
        yield opened


def test_every_question_that_reads_is_served(url: str) -> None:
    """A new query has its doors by itself."""
    paths = ask(f"{url}/openapi.json").json["paths"]
    posted = {path.rpartition("/")[2] for path, operations in paths.items() if "post" in operations}
    functions = {name for name in query.__all__ if not inspect.isclass(getattr(query, name))}
    of_experiments = {f"experiments.{name}" for name in query.experiments.SERVED}
    assert posted == (functions - query.WRITES) | of_experiments
    assert functions >= query.WRITES


def takes_subjects(question: Question) -> bool:
    """Whether it needs what another question answered."""
    needed = [parameter for parameter in question.parameters.values() if parameter.default is parameter.empty]
    return any(types_of(parameter.annotation) == (query.Subject,) for parameter in needed)


def test_examples_of_the_page_run(url: str) -> None:
    """Each as it stands; the small networks can't be loaded, so what needs one is left out."""
    page = ask(f"{url}/openapi.json").json
    asked, lacking = 0, ("/layout_points", "/layout_examples", "/experiments.load")  # nothing is stored of these
    about_subjects = tuple(f"/{name}" for name, question in questions().items() if takes_subjects(question))
    for path, operations in page["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            if "reader" in content.get("schema", {}).get("required", ()) or "span" in content.get("example", {}):
                continue
            given = {p["name"]: p["example"] for p in operation.get("parameters", ()) if "example" in p}
            address = url + path.format(**given)
            if method == "get":
                named = {
                    p["name"]: p["example"]
                    for p in operation.get("parameters", ())
                    if p["in"] == "query" and "example" in p
                }
                answer = ask(f"{address}?{urlencode(named)}")
            elif "example" in content:
                answer = ask(address, content["example"])
            else:
                assert path.endswith(("/compare", *about_subjects, *lacking)), path
                continue
            asked += 1
            assert answer.status == 200 or path.endswith(lacking), (path, answer)
    assert asked > 40


def test_pages_ask_nothing_of_other_hosts(url: str) -> None:
    page = ask(f"{url}/docs").content.decode()
    assert "swagger-ui" in page and "https://" not in page
    assert '"validatorUrl": null' in page
    for part in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"):
        assert ask(f"{url}/static-offline-docs/{part}").status == 200


def test_a_table_comes_in_each_form(url: str, a: Atlas) -> None:
    """JSON, Arrow and Parquet hold what Python has, attributes included."""
    ours = query.nearest(a, example=20, k=3, **SITE)
    address, body = f"{url}/v1/three/nearest", {"example": 20, "k": 3, **SITE}
    rows = ask(address, body).json
    assert rows["rows"] == json.loads(as_json(ours)) and rows["attrs"] == ours.attrs
    streamed = ask(address, body, Accept="application/vnd.apache.arrow.stream")
    assert streamed.media_type == "application/vnd.apache.arrow.stream"
    with pa.ipc.open_stream(streamed.content) as reader:
        assert reader.read_all().equals(arrow_table(ours))
    file = ask(address, body, Accept="application/vnd.apache.parquet, */*;q=0.1")
    kept = pd.read_parquet(io.BytesIO(file.content))
    assert kept.attrs == ours.attrs and kept["example_id"].tolist() == ours["example_id"].tolist()
    assert ask(f"{address}?{urlencode({'example': 20, 'k': 3, **SITE})}").json == rows
    assert (
        "accept application/json" in ask(f"{url}/v1/three/info", {}, Accept="application/vnd.apache.parquet").detail
    )
    assert "can be had as application/json" in ask(address, body, Accept="image/png").detail


def test_a_long_answer_is_streamed(url: str) -> None:
    """It comes in chunks, and is the same."""
    body = {"query": "select range as n from range(25000)", "limit": None}
    answer = ask(f"{url}/v1/three/sql", body)
    assert [row["n"] for row in answer.json["rows"]] == list(range(25000))
    with socket.create_connection(("127.0.0.1", urlsplit(url).port)) as connection:
        content = json.dumps(body).encode()
        head = f"POST /v1/three/sql HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
        connection.sendall(head.encode() + content)
        assert b"transfer-encoding: chunked" in connection.recv(500).lower()


WRONG: list[tuple[str, dict[str, Any], type[PolytopeError], int]] = [
    ("nearest", {"example": 10**6, **SITE}, UnknownName, 404),
    ("nearest", {"example": 20, "site": "nowhere"}, UnknownName, 404),
    ("nearest", {"example": 20, "code": "01", **SITE}, UsageError, 422),
    ("nearest", {"code": "01", **SITE}, WidthError, 422),
    ("nearest", {"example": 20, "k": 0, **SITE}, UsageError, 422),
    ("nearest", {"example": 20, "where": "1; drop table codes", **SITE}, SqlFailed, 422),
    ("clusters", {"clustering": 99}, UnknownName, 404),
    ("density", {"x": 20, "y": 20, **SITE}, UsageError, 422),
    ("sql", {"query": "drop table codes"}, SqlRefused, 403),
    ("sql", {"query": "from read_text('/etc/passwd')"}, SqlRefused, 403),
    ("sql", {"query": "select nothing"}, SqlFailed, 422),
]


@pytest.mark.parametrize(("name", "given", "kind", "status"), WRONG)
def test_errors_say_what_python_says(
    url: str, a: Atlas, built: Path, name: str, given: dict[str, Any], kind: type[PolytopeError], status: int
) -> None:
    """The same sentence, in which the atlas has the name that it is served under, and a type that stays."""
    with pytest.raises(kind) as error:
        getattr(query, name)(a, **given)
    answer = ask(f"{url}/v1/three/{name}", given)
    assert answer.detail == str(error.value).replace(str(built), "three")
    assert answer.status == answer.json["status"] == status
    words = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in type(error.value).__name__)
    assert answer.json["type"] == f"urn:polytope-atlas:{words[1:]}"


def test_what_is_no_request_is_explained(url: str) -> None:
    nearest = f"{url}/v1/three/nearest"
    told = {
        "has no parameter 'shape'; it takes example, text": ask(nearest, {"shape": 1}),
        "k: Input should be a valid integer, got '3'": ask(nearest, {"k": "3"}),
        "cluster is missing": ask(f"{url}/v1/three/near_clusters", {"clustering": 1}),
        "the body is no JSON object": ask(nearest, b"[1, 2]"),
        "recursion limit": ask(nearest, b"[" * 100_000),
        "is given twice": ask(f"{nearest}?k=1&k=2"),
        "no atlas 'other' is served here; there is three": ask(f"{url}/v1/other/nearest", {}),
        "`GET /v1` lists atlases and questions": ask(f"{url}/v1/three/name_cluster", {}),
        "is not asked by PUT": ask(nearest, b"{}", method="PUT"),
        "an example is named by its id": ask(f"{url}/v1/three/thumbnail/-1"),
        "nothing is at '/v1/three/thumbnail/../../etc'": ask(f"{url}/v1/three/thumbnail/..%2f..%2fetc"),
        "no picture of an example 20": ask(f"{url}/v1/three/thumbnail/20"),
        "is not base64": ask(nearest, {"image": "/etc/passwd", "site": "conv1", "network": "pixels"}),
    }
    for words, answer in told.items():
        assert words in answer.detail and 400 <= answer.status < 500, answer


def test_pictures_of_examples_are_served(url: str, a: Atlas) -> None:
    [(example, picture)] = a.rows(
        "select example_id, thumbnail from examples join inputs using (input_id) where thumbnail is not null limit 1"
    )
    answer = ask(f"{url}/v1/three/thumbnail/{example}")
    assert answer.content == bytes(picture) and answer.media_type == "image/png"


def test_ten_clients_get_what_one_gets(url: str, built: Path) -> None:
    """At once, each its own questions, from indexes, SQL and the database."""
    asked = [
        *(("nearest", {"example": example, "k": 5, **SITE}) for example in range(12, 32)),
        *(("members", {"clustering": 2, "cluster": cluster}) for cluster in range(2)),
        *(("sql", {"query": "select $1 + count(*) as n from codes", "parameters": [n]}) for n in range(4)),
        *(("cluster_path", {"example": example}) for example in range(12, 22)),
    ]
    with ThreadPoolExecutor(10) as clients:
        answers = list(clients.map(lambda one: ask(f"{url}/v1/three/{one[0]}", one[1]).json["rows"], asked))
    with atlas.open(built) as a:
        alone = [json.loads(as_json(getattr(query, name)(a, **given))) for name, given in asked]
    assert answers == alone


def test_atlases_do_not_see_each_other(built: Path, tmp_path: Path) -> None:
    """Two that are served side by side, one of them empty."""
    atlas.create(tmp_path / "empty.atlas").close()
    with serving(built, tmp_path / "empty.atlas") as url:
        assert ask(f"{url}/v1").json["atlases"] == ["three", "empty"]
        count = {"query": "select count(*) as n from examples"}
        counts = [ask(f"{url}/v1/{name}/sql", count).json["rows"][0]["n"] for name in ("three", "empty")]
        assert counts[0] > 0 == counts[1]
        assert "holds no network yet" in ask(f"{url}/v1/empty/nearest", {"example": 20, "site": "a"}).detail
        attached = ask(f"{url}/v1/empty/sql", {"query": f"from '{built / 'atlas.duckdb'}'.codes"})
        assert attached.status in (403, 422)


def test_a_token_is_needed_where_asked(built: Path, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# of the tests\n\n{TOKEN}\nanother-token-of-them\n")
    with serving(built, tokens=read_tokens(file)) as url:
        address = f"{url}/v1/three/layouts"
        assert ask(f"{url}/health").status == 200
        for path in ("/v1", "/docs", "/metrics", "/openapi.json", "/v1/three/layouts"):
            assert (ask(url + path).status, ask(url + path).detail[:20]) == (401, "the token is missing")
        assert "the token is wrong" in ask(address, {}, Authorization="Bearer another").detail
        assert ask(address, {}, Authorization=f"Basic {TOKEN}").status == 401
        assert ask(address, {}, Authorization=f"Bearer {TOKEN}").status == 200
        for password, status in ((TOKEN, 200), ("another", 401), ("", 401)):  # as a browser has it
            basic = base64.b64encode(f"me:{password}".encode()).decode()
            for path in ("/docs", "/openapi.json", "/v1/three/layouts"):
                assert ask(url + path, Authorization=f"Basic {basic}").status == status
        basic = base64.b64encode(f"me:{TOKEN}".encode()).decode()
        assert ask(address, {}, Authorization=f"Basic {basic}", Sec_Fetch_Site="cross-site").status == 401
        with pytest.raises(HTTPError) as page_asks:
            urlopen(f"{url}/docs")
        assert page_asks.value.headers["WWW-Authenticate"] == 'Basic realm="polytope"'
        page_asks.value.close()
        assert ask(address, {}, Authorization="bearer another-token-of-them").status == 200
        page = ask(f"{url}/openapi.json", Authorization=f"Bearer {TOKEN}").json
        assert page["security"] == [{"token": []}]


@pytest.mark.parametrize("text", ["", "# none\n", "short\n", "with-an-é-in-the-middle\n"])
def test_weak_tokens_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokens").write_text(text)
    with pytest.raises(UsageError, match="needs a token a line, of at least 16"):
        read_tokens(tmp_path / "tokens")
    with pytest.raises(UsageError, match="which"):
        read_tokens(tmp_path / "none")


def test_other_hosts_and_pages_are_kept_out(built: Path) -> None:
    """A name that is made to point here is turned away, and a browser is told of pages that are named alone."""
    with serving(built, origins=["https://example.org"]) as url:
        assert "is for host 'evil.example'" in ask(f"{url}/v1", Host="evil.example").detail
        assert ask(f"{url}/v1", Host="localhost:1").status == ask(f"{url}/v1", Host="[::1]:80").status == 200
        wanted = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "authorization"}
        assert ask(f"{url}/v1", method="OPTIONS", Origin="https://example.org", **wanted).status == 200
        assert ask(f"{url}/v1", method="OPTIONS", Origin="https://evil.example", **wanted).status == 400


def test_bodies_are_bounded(built: Path) -> None:
    """In size and in the time that they take; and so is the head of a request, a second one among them."""
    with serving(built, body_bytes=1000, body_seconds=0.3, head_seconds=0.3) as url:
        address = f"{url}/v1/three/sql"
        assert ask(address, {"query": "x" * 1000}).status == 413
        port = urlsplit(url).port
        head = b"POST /v1/three/sql HTTP/1.1\r\nHost: localhost\r\n"
        for sent, status in (
            (b"Content-Length: 100\r\n\r\n{", b" 408 "),
            (b"Transfer-Encoding: chunked\r\n\r\n400\r\n" + b"x" * 1024 + b"\r\n", b" 413 "),
            (b"Content-Length: 99999999999999\r\n\r\n", b" 413 "),
            (b"Content-Length: -1\r\n\r\n", b" 400 "),
            (b"Accept: ", b" 408 "),
        ):
            with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                connection.sendall(head + sent)
                assert status in connection.recv(100)
        with socket.create_connection(("127.0.0.1", port), timeout=60) as kept:
            kept.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert _answer(kept) == (200, {"status": "ok"})
            kept.sendall(head)
            status, late = _answer(kept)
            assert status == 408 and "the head of the request took longer than 0.3 s" in late["detail"]
            assert kept.recv(1) == b""


def _answer(connection: socket.socket) -> tuple[int, Any]:
    answer = HTTPResponse(connection)
    answer.begin()
    return answer.status, json.loads(answer.read())


def test_answers_are_bounded(built: Path) -> None:
    """In rows and megabytes, each with a sentence; and what is not too much is answered."""
    with serving(built, limits=Limits(rows=20, megabytes=1)) as url:
        sql = f"{url}/v1/three/sql"
        too_many = ask(sql, {"query": "from range(21)", "limit": None})
        assert "more than the 20 rows that this server sends" in too_many.detail and too_many.status == 422
        assert len(ask(sql, {"query": "from range(20)"}).json["rows"]) == 20
        assert ask(sql, {"query": "from range(100)", "limit": 7}).json["attrs"] == {"truncated": True}
        assert "20 rows" in ask(f"{url}/v1/three/nearest", {"example": 20, "k": 30, **SITE}).detail
        many = {"examples": [20, 21, 22], "k": 10, **SITE}
        assert "3 times 10 rows are asked for" in ask(f"{url}/v1/three/nearest_many", many).detail
        assert "MB, and this server sends at most 1" in ask(sql, {"query": "select repeat('x', 2000000)"}).detail


def test_too_many_at_once_are_turned_away(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is answered later, as far as its time allows; what is too much is told to come again."""
    monkeypatch.setattr(server, "WAITING", 1)
    with serving(built, limits=Limits(seconds=1.0, requests=1)) as url, ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(lambda n: ask(f"{url}/v1/three/sql", {"query": SLOW}), range(4)))
        by_status = {answer.status: answer for answer in answers}
        assert by_status.keys() == {422, 429}
        assert "ran longer than 1 s" in by_status[422].detail
        assert by_status[422].json["type"].endswith(":sql-timeout")
        assert ask(f"{url}/v1/three/layouts", {}).status == 200


def test_counts_are_kept_for_prometheus(url: str) -> None:
    for path in ("layouts", "layouts", "no/such/thing"):
        ask(f"{url}/v1/three/{path}", {})
    counted = ask(f"{url}/metrics").content.decode()
    assert 'polytope_requests_total{question="layouts",status="200"}' in counted
    assert "such" not in counted and 'polytope_request_seconds_count{question="other"}' in counted

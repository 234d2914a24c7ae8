"""Requests of somebody who means harm get a sentence and change nothing; a server that is killed leaves no lock."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import threading
import time
from collections import Counter
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

import atlas
from app.serving.limits import Limits
from app.serving.questions import questions
from atlas.errors import AtlasLocked
from tests.app.explorer.browsing import free_port
from tests.app.http.listening import PATIENCE, serving
from tests.campaign.test_campaign import STATEMENTS
from tests.campaign.words import NUMBERS, WORDS
from tests.forked import running

REQUESTS, SLOWLY = 300, 20
SLOW = 2.0
"""Seconds for the head of a request, and for its body."""

SEED = 17

QUICK = sorted(name for name, question in questions().items() if not question.long and name != "sql")


def value(chance: random.Random, depth: int = 2) -> Any:
    """What may stand where something else is expected."""
    words = [word.encode(errors="replace").decode() for word in WORDS]
    simple = [*words, *NUMBERS, None, True, -1, 0, 1, 3, 2**31, 2**40, 2**63, 10**30, 0.5, -1e308, float("nan")]
    if depth and chance.random() < 0.2:
        return [value(chance, depth - 1) for _ in range(chance.randrange(3))]
    if depth and chance.random() < 0.1:
        return {chance.choice(words): value(chance, depth - 1) for _ in range(chance.randrange(3))}
    return chance.choice(simple)


def arguments(chance: random.Random, name: str) -> dict[str, Any]:
    """Some arguments of a question, fitting ones among them, and sometimes one that it does not have."""
    known = questions()[name].parameters
    fitting = {"site": "blocks.3.mlp", "network": "words", "example": 20, "clustering": 2, "cluster": 0, "layout": 1}
    body = {p: fitting[p] for p in known if p in fitting and chance.random() < 0.5}
    body |= {p: value(chance) for p in chance.sample([*known, "shape", "atlas", "progress"], min(2, len(known)))}
    return body


def statement(chance: random.Random, folder: Path) -> str:
    words = {
        "place": folder,
        "atlas": folder,
        "nested": "(" * chance.randrange(3000) + "1" + ")" * chance.randrange(3000),
        "many": " + ".join(["1"] * chance.randrange(1, 9000)),
        "deep": "[" * chance.randrange(20000) + "]" * 20000,
    }
    return chance.choice(STATEMENTS).format_map(words)


def request(chance: random.Random, number: int, folder: Path) -> tuple[str, str, bytes, dict[str, str]]:
    """Method, path, body and headers of a hostile request."""
    name = chance.choice(QUICK)
    path, body, headers = f"/v1/three/{name}", json.dumps(arguments(chance, name)).encode(), {}
    match number % 10:
        case 0:
            body = bytes(chance.randrange(256) for _ in range(chance.randrange(200)))
        case 1:
            opened = chance.choice([b"[", b'{"a":', b'{"vector":['])
            body = opened * chance.randrange(1, 50_000)
        case 2:
            places = ["../../etc/passwd", "..%2f..%2fetc", "%00", "a" * 3000, "nearest/..", "//", "%ff%fe", ".", "*"]
            path = "/v1/" + chance.choice(["", "three/", "three/thumbnail/", "../"]) + chance.choice(places)
            return chance.choice(["GET", "POST", "DELETE", "PUT", "TRACE"]), path, b"", {}
        case 3:
            words = [quote(str(value(chance, 0)), errors="replace") for _ in range(3)]
            names = chance.choices([*questions()[name].parameters, "shape"], k=3)
            pairs = "&".join(f"{key}={word}" for key, word in zip(names, words, strict=True))
            return "GET", f"{path}?{pairs}", b"", {}
        case 4 if number % 50 == 4:
            path, body = "/v1/three/sql", json.dumps({"query": statement(chance, folder)}).encode()
        case 5:
            accept = ["text/html", "*/*;q=x", "application/json;q=-1", ", ,", "a" * 5000]
            headers = {"Accept": chance.choice(accept), "Content-Type": "image/png", "Range": "bytes=0-1"}
        case 6:
            subject = {
                "kind": "code",
                "name": "x",
                "target": "blocks.3.mlp",
                "network": "words",
                "code": value(chance),
            }
            code = {"packed": chance.choice(["", "AA==", "////", "no"]), "parts": [chance.choice([0, 1, 8, 2**40])]}
            body = json.dumps({"subject": subject | chance.choice([{}, {"code": code}])}).encode()
    return "POST", path, body, headers


@pytest.mark.slow
def test_hostile_requests_change_nothing(built: Path, tmp_path: Path) -> None:
    """Each is answered, with a sentence if it is refused; afterwards the atlas is what it was, byte for byte."""
    chance, counted = random.Random(SEED), Counter[int]()
    before = {file: file.read_bytes() for file in built.rglob("*") if file.is_file()}
    with (
        serving(built, limits=Limits(seconds=0.5), head_seconds=SLOW, body_seconds=SLOW) as url,
        ExitStack() as opened,
    ):
        port = urlsplit(url).port
        slow = [opened.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(SLOWLY)]
        for number, connection in enumerate(slow):  # half a head, or a head and half a body, while others are asked
            whole = b"POST /v1/three/nearest HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
            connection.sendall(whole if number % 2 else whole[: 5 * number])
        for number in range(REQUESTS - SLOWLY):
            method, path, body, headers = request(chance, number, tmp_path)
            client = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
            client.request(method, path, body, headers)
            answer = client.getresponse()
            content = answer.read()
            counted[answer.status] += 1
            assert answer.status in (200, 307) or 400 <= answer.status < 500, (method, path, body[:300], content)
            if answer.status >= 400:
                assert len(json.loads(content)["detail"]) > 10, (method, path, content)
            client.close()
        for connection in slow:
            answer = HTTPResponse(connection)
            answer.begin()
            counted[answer.status] += 1
            assert answer.status == 408 and f"longer than {SLOW:g} s to come" in json.loads(answer.read())["detail"]
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as raw:
            raw.sendall(b"\x16\x03\x01 no request at all\r\n\r\n")
            assert b" 400 " in raw.recv(100)
    assert {file: file.read_bytes() for file in built.rglob("*") if file.is_file()} == before
    assert list(tmp_path.iterdir()) == []
    assert sum(counted.values()) == REQUESTS and counted[200] > 10 and counted[422] > 60, counted


def test_a_killed_server_leaves_no_lock(small: Path) -> None:
    """Killed in the middle of an answer, as the kernel does: what it started ends as well, and others can write."""
    port = free_port()
    with running("app.cli.main", "serve", str(small), "--port", str(port)) as server:
        _until(lambda: _answers(port))
        with pytest.raises(AtlasLocked, match="is being read or written by process"):
            atlas.open(small, writable=True)
        asking = threading.Thread(target=_ask_in_vain, args=(port,))
        asking.start()
        _until(lambda: b"under_way 1.0" in _get(port, "/metrics"))
        os.kill(server.pid, signal.SIGKILL)
        asking.join()
        _until(lambda: _opens(small))


def _until(holds: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _get(port: int, path: str) -> bytes:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", path)
    try:
        return connection.getresponse().read()
    finally:
        connection.close()


def _answers(port: int) -> bool:
    try:
        return b"ok" in _get(port, "/health")
    except ConnectionError:
        return False


def _ask_in_vain(port: int) -> None:
    body = json.dumps({"query": "select count(*) from range(100000000000) t(i) where hash(i) = 1"})
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("POST", "/v1/three/sql", body)
    with pytest.raises(ConnectionError, match=r"closed connection|reset by peer"):
        connection.getresponse()


def _opens(path: Path) -> bool:
    try:
        atlas.open(path, writable=True).close()
    except AtlasLocked:
        return False
    return True

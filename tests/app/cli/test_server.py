"""`polytope serve`: what it refuses before it listens; what it answers, tests/app/http asks."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

import pytest

from tests.app.cli.command import Run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--host", "0.0.0.0"), "can be reached by others; name the tokens that they need with --token-file"),
        (("--token-file", "/nowhere/tokens"), "--token-file is /nowhere/tokens, which"),
        (("other/three.atlas",), "two atlases are called three; their folders need different names"),
    ],
)
def test_unsafe_servers_are_refused(built: Path, polytope: Run, words: tuple[str, ...], said: str) -> None:
    answer = polytope("serve", built, *words)
    assert answer.status == 1 and said in answer.err


def test_taken_ports_are_named(built: Path, polytope: Run) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        answer = polytope("serve", built, "--port", taken.getsockname()[1])
    assert answer.status == 1 and "the server can't listen on 127.0.0.1, port" in answer.err

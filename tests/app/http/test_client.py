"""`atlas.connect`: a server's atlas answers Python as the atlas on disk does, down to the attributes."""

from __future__ import annotations

import inspect
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields, is_dataclass, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pandas as pd
import pytest

import atlas
import query
from app.http.examples import example_of, values_of
from app.serving.questions import questions
from atlas import Atlas, RemoteAtlas
from atlas.errors import (
    AccessDenied,
    AnswerTooLarge,
    ServerFailed,
    ServerUnreachable,
    UnknownName,
    UsageError,
)
from query import experiments
from tests.app.http.listening import ask, serving

SITE = {"site": "blocks.3.mlp", "network": "words"}
TOKEN = "a-token-of-the-tests"


@pytest.fixture(scope="module")
def a(built: Path) -> Iterator[Atlas]:
    with atlas.open(built) as opened:
        yield opened


@pytest.fixture(scope="module")
def remote(url: str) -> Iterator[RemoteAtlas]:
    with atlas.connect(url) as connected:
        yield connected


def check_same(theirs: Any, ours: Any) -> None:
    """The same values of the same types, attributes of tables included."""
    assert type(theirs) is type(ours), (theirs, ours)
    if isinstance(ours, pd.DataFrame):
        pd.testing.assert_frame_equal(theirs, ours)
        check_same(theirs.attrs, ours.attrs)
    elif isinstance(ours, np.ndarray):
        np.testing.assert_array_equal(theirs, ours, strict=True)
    elif isinstance(ours, dict):
        assert list(theirs) == list(ours)
        for key in ours:
            check_same(theirs[key], ours[key])
    elif isinstance(ours, list | tuple):
        assert len(theirs) == len(ours)
        for their, our in zip(theirs, ours, strict=True):
            check_same(their, our)
    elif is_dataclass(ours):
        for field in fields(ours):
            check_same(getattr(theirs, field.name), getattr(ours, field.name))
    else:
        assert theirs == ours or (theirs != theirs and ours != ours)


@pytest.mark.slow
def test_every_answer_is_the_same(a: Atlas, remote: RemoteAtlas) -> None:
    """Of every question that the atlas can be asked without a network."""
    values, asked = values_of(a), []
    for question in questions().values():
        given = None if question.reads({}) else example_of(question, values)
        if given is not None:
            function = question.function
            ours, theirs = function(a, **given), function(remote, **given)
            if question.name == "subject":
                theirs = replace(theirs, atlas=a.path)
            check_same(theirs, ours)
            asked.append(question.name)
    assert len(asked) > 20, asked


def test_one_subject_serves_many_questions(a: Atlas, remote: RemoteAtlas) -> None:
    theirs, ours = (query.subject(each, example=20, **SITE) for each in (remote, a))
    check_same(query.nearest(remote, subject=theirs, k=4), query.nearest(a, subject=ours, k=4))
    check_same(query.membership(remote, subject=theirs), query.membership(a, subject=ours))
    with pytest.raises(UsageError, match=r"the subject was read in .*three.atlas, not in http://127"):
        query.nearest(remote, subject=ours)
    packed = query.nearest(remote, code=ours.codes, k=4, **SITE)
    check_same(packed, query.nearest(a, code=ours.codes, k=4, **SITE))
    ids, codes = a.codes(a.catalog.target(**SITE).sites, np.arange(20, 25))
    check_same(query.nearest_many(remote, codes=codes, **SITE), query.nearest_many(a, codes=codes, **SITE))
    check_same(query.nearest_many(remote, examples=ids, **SITE), query.nearest_many(a, examples=ids, **SITE))


def test_stored_experiments_are_answered(built: Path, tmp_path: Path) -> None:
    """With their tables and figures; to run one, the atlas has to be there."""
    path = Path(shutil.copytree(built, tmp_path / "measured.atlas"))
    with atlas.open(path) as a:
        result = experiments.run(a, "occupancy", network="words")
    with atlas.open(path, writable=True) as a:
        experiments.save(a, result)
    with atlas.open(path) as a, serving(path) as url, atlas.connect(url) as remote:
        check_same(experiments.stored(remote), experiments.stored(a))
        theirs = experiments.load(remote, 1)
        check_same(theirs, experiments.load(a, experiment_id=1))
        assert theirs.figure() == result.figure()
        with pytest.raises(UnknownName, match="no experiment 7 in measured; it holds 1"):
            experiments.load(remote, 7)
        for function, given in ((experiments.run, {"name": "occupancy"}), (experiments.save, {"result": result})):
            with pytest.raises(UsageError, match="is for an atlas on disk; a server has stored results"):
                function(remote, **given)
        told = ask(f"{url}/v1/measured/experiments.load?experiment_id=1").json
        assert told["kind"] == "occupancy" and len(told["tables"]["table"]["rows"]) == len(result.table)
        assert "draw" not in told


def test_sql_has_its_types(a: Atlas, remote: RemoteAtlas) -> None:
    """Decimals, lists, blobs, NaN beside what is missing, moments, columns of one name."""
    statement = """
        select 1 as a, 2 as a, [1, 2, null] as many, 1e30::decimal(38, 2) as exact, 'nan'::double as d,
               null as nothing, code::blob as b,
               timestamp '2020-01-02 03:04:05' as t, {'x': [1.5]} as s, date '2020-01-02' as day
        from codes limit 3
    """
    check_same(query.sql(remote, statement), query.sql(a, statement))
    check_same(remote.sql("select $1 + 1 as n", [41], row_limit=1), a.sql("select $1 + 1 as n", [41], row_limit=1))
    check_same(query.sql(remote, "select $x as n", {"x": "é"}), query.sql(a, "select $x as n", {"x": "é"}))


def test_errors_are_those_of_the_atlas(a: Atlas, built: Path, remote: RemoteAtlas) -> None:
    with pytest.raises(UnknownName) as ours:
        query.nearest(a, example=10**6, **SITE)
    with pytest.raises(UnknownName) as theirs:
        query.nearest(remote, example=10**6, **SITE)
    assert str(theirs.value) == str(ours.value).replace(str(built), "three")
    for name in query.WRITES:
        with pytest.raises(UsageError, match=f"{name} writes, and a served atlas is only read"):
            getattr(query, name)(remote, "a name", clustering=1, cluster=0)
    with pytest.raises(UsageError, match="code is of type complex, which a served atlas is not sent"):
        query.nearest(remote, code=1j, **SITE)  # type: ignore[arg-type]


def test_servers_are_found_or_explained(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path / "other.atlas")
    with serving(built, tmp_path / "other.atlas", tokens=[TOKEN]) as url:
        with pytest.raises(UsageError, match=rf"serves three, other; name one: {url}/v1/three"):
            atlas.connect(url, token=TOKEN)
        with atlas.connect(f"{url}/v1/other", token=TOKEN) as remote:
            assert len(query.layouts(remote)) == 0 and remote.name == "other"
        with pytest.raises(UnknownName, match="no atlas 'none' is served here; there is three, other"):
            query.layouts(atlas.connect(f"{url}/v1/none", token=TOKEN))
        with pytest.raises(AccessDenied, match="the token is missing"):
            atlas.connect(url)
    with pytest.raises(ServerUnreachable, match="nothing answers at"):
        atlas.connect(url)
    for address in ("ftp://x", "http://", "three.atlas", "http://x/v1/a/b"):
        with pytest.raises(UsageError, match="is no address of a server"):
            atlas.connect(address)
    with pytest.raises(UsageError, match="letters that no header holds"):
        atlas.connect(url, token="a\r\nb")


class Other(BaseHTTPRequestHandler):
    """A server of something else."""

    def do_GET(self) -> None:
        self.answer(b'{"atlases": ["x"]}' if self.path == "/v1" else b"<html>")

    def do_POST(self) -> None:
        self.answer(b'{"$record": ["os", "system", {"command": "true"}]}')

    def answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words: object) -> None:
        """Say nothing."""


def test_other_servers_are_not_believed() -> None:
    """What they send is data alone: no record from elsewhere is built."""
    with HTTPServer(("127.0.0.1", 0), Other) as server:
        Thread(target=server.serve_forever).start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            with pytest.raises(ServerFailed, match=r"a record os.system, which is none of atlas, query"):
                query.layouts(atlas.connect(address))
            with pytest.raises(ServerUnreachable, match="is no server of atlases"):
                atlas.connect(f"{address}/elsewhere")
        finally:
            server.shutdown()


def test_a_closed_connection_is_opened_anew(built: Path) -> None:
    """A server that was started again is asked again, without a word."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    with serving(built, port=port) as url:
        remote = atlas.connect(url)
        assert len(query.clusterings(remote)) == 6
    with serving(built, port=port):
        assert len(query.clusterings(remote)) == 6
    remote.close()


def test_the_client_is_light() -> None:
    """It needs neither the server's libraries nor torch."""
    heavy = {"fastapi", "torch", "pydantic", "uvicorn"}
    code = f"import sys, atlas, query; atlas.connect; print({heavy} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


def test_questions_keep_their_face() -> None:
    """Signatures, names and docstrings are those of the functions."""
    for name, question in questions().items():
        function = question.function
        assert function.__name__ == name.rpartition(".")[2] and "atlas" in inspect.signature(function).parameters


def test_long_answers_of_a_server_are_whole(a: Atlas, remote: RemoteAtlas) -> None:
    statement = "select range as n, repeat('x', 20) as s from range(30000)"
    check_same(query.sql(remote, statement, limit=None), query.sql(a, statement, limit=None))
    with pytest.raises(AnswerTooLarge, match="more than the 100,000 rows"):
        query.sql(remote, "from range(100001)", limit=None)

"""What the network of a served atlas reads, by every door: HTTP, curl, the Python client, an assistant's tools.

All ask one server, whose process has a network loaded once.
"""

from __future__ import annotations

import base64
import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torchvision

import atlas
import query
from app.mcp.server import create_server
from app.serving.limits import Limits
from app.serving.served import Served
from atlas import Atlas
from atlas.errors import BadInput, WeightsError
from ingest.datasets.builtin import digit_images
from tests.app.cli.test_main import in_readme
from tests.app.http.listening import ask, serving
from tests.app.http.test_client import check_same
from tests.app.mcp.test_server import called
from tests.networks import shipped

TEXT = {"text": "import os", "site": "blocks.2.mlp"}


@pytest.fixture(scope="module")
def url(demo_atlas: Path) -> Iterator[str]:
    with serving(demo_atlas) as address:
        yield address


@pytest.fixture(scope="module")
def a(demo_atlas: Path) -> Iterator[Atlas]:
    with atlas.open(demo_atlas) as opened:
        yield opened


@pytest.fixture(scope="module")
def picture(a: Atlas) -> bytes:
    return bytes(a.value("select thumbnail from inputs where thumbnail is not null order by input_id limit 1"))


@pytest.fixture(scope="module")
def token(a: Atlas) -> int:
    """What README calls 17: here the digits came first, in `polytope demo` the texts."""
    return int(a.value("select min(example_id) from examples where token is not null"))


def test_images_are_read_by_the_server(url: str, picture: bytes, tmp_path: Path) -> None:
    """Sent in base64, or from a file by the client; and what takes long runs in that process as well."""
    image = {"image": base64.b64encode(picture).decode(), "site": "inception5b", "k": 2}
    assert ask(f"{url}/v1/demo/nearest", image).json["rows"][0]["distance"] == 0
    (tmp_path / "digit.png").write_bytes(picture)
    with atlas.connect(url) as remote:
        seen = query.nearest(remote, image=tmp_path / "digit.png", site="inception5b", k=1)
        assert seen["distance"].tolist() == [0]
        with pytest.raises(BadInput, match=r"no image file .*none.png"):
            query.nearest(remote, image=tmp_path / "none.png", site="inception5b")
    page = ask(f"{url}/openapi.json").json["paths"]["/v1/{atlas}/boundaries"]["post"]
    body = page["requestBody"]["content"]["application/json"]["example"]
    bounds = ask(f"{url}/v1/demo/boundaries", body).json
    assert len(bounds["table"]["rows"]) == body["k"] and bounds["exact"]


def test_texts_are_read_by_the_server(url: str, a: Atlas) -> None:
    text = TEXT | {"k": 2}
    digest = a.catalog.network("demo-gpt2").weights_digest
    read = ask(f"{url}/v1/demo/nearest", text | {"reader": digest})
    assert read.json["attrs"]["subject"] == "token 1 (' os') of the text" and len(read.json["rows"]) == 2
    where = ask(f"{url}/v1/demo/nearest", text | {"where": "nonsense = 1"})
    assert "nonsense" in where.detail and where.json["type"] == "urn:polytope-atlas:sql-failed"
    assert "names 00: leave it away" in ask(f"{url}/v1/demo/nearest", text | {"reader": "00"}).detail
    subject = ask(f"{url}/v1/demo/subject", TEXT).json
    assert subject["tokens"] == ["import", " os"] and subject["token"] == 1
    again = ask(f"{url}/v1/demo/nearest", {"subject": subject, "k": 2}).json["rows"]
    assert again == read.json["rows"]


def test_the_client_has_texts_read(url: str) -> None:
    """The reader that is handed in must be the server's."""
    with atlas.connect(url) as remote:
        subject = query.subject(remote, **TEXT)
        assert subject.tokens == ("import", " os") and subject.activations
        check_same(query.nearest(remote, subject=subject, k=3), query.nearest(remote, k=3, **TEXT))
        with pytest.raises(WeightsError, match="leave it away, or ask the atlas of those"):
            query.nearest(remote, reader=shipped("demo:inceptionv1"), **TEXT)


def test_tools_have_texts_read(url: str, demo_atlas: Path) -> None:
    """Its tokens are numbered, for the next question to name one."""
    with Served(demo_atlas, "demo", Limits()) as served:
        tokens, near = called(create_server(served), ("subject", TEXT), ("nearest", TEXT | {"token": 0, "k": 2}))
    assert "\n0,import\n1, os" in tokens.content[0].text
    assert near.content[0].text.startswith("Nearest to token 0 ('import') of the text at blocks.2.mlp")


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl: `apt install curl`")
def test_curl_in_the_readme_is_answered(url: str, token: int, tmp_path: Path) -> None:
    """Every line of it as it stands, but for the port and the example."""
    lines = [line for line in in_readme("sh").replace("\\\n", " ").splitlines() if line.startswith("curl ")]
    for line in lines:
        here = line.replace("http://127.0.0.1:8765", url).replace("example=17", f"example={token}")
        words = [*shlex.split(here), "--silent", "--show-error", "--fail-with-body"]
        answer = subprocess.run(words, cwd=tmp_path, capture_output=True, check=True).stdout
        rows = pd.read_parquet(tmp_path / "clusters.parquet") if "-o" in words else json.loads(answer)["rows"]
        assert len(rows) >= 2, line
    assert len(lines) >= 4


@pytest.mark.slow
def test_the_python_in_the_readme_runs(
    url: str, demo_atlas: Path, token: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # it makes an atlas
    for name, digit in zip(["cat.png", "images/cat/0.png", "images/dog/1.png"], digit_images("train"), strict=False):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        digit.image.save(tmp_path / name)
    theirs = {"model": torchvision.models.resnet18(num_classes=2).eval(), "names": ["cat", "dog"]}
    code = in_readme("python").replace('"demo.atlas"', repr(str(demo_atlas)))
    exec(code.replace("example=17", f"example={token}").replace('"http://127.0.0.1:8765"', repr(url)), theirs)

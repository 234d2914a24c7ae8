"""Who is let in, and to what: the server as `polytope app` starts it."""

import http.client
import inspect
import os
import re
import signal
import socket
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from app.cli.serve import UPLOAD_MEGABYTES, app, arguments, serve
from tests.app.explorer.browsing import (
    IN_BROWSER,
    OpenPage,
    address,
    answered,
    answering,
    free_port,
    serving,
)
from tests.forked import running

TEXT, IMAGE, SITE = "demo-gpt2", "demo-inceptionv1", "inception5b"
LONGEST = 60.0
"""Seconds until a server counts as deaf to Ctrl-C, on a machine that does much else."""

NAMING = '[class*="st-key-naming-"]'


def options(line: list[str]) -> dict[str, str]:
    """The flags of a command line, up to what is for our script."""
    flags = line[2 : line.index("--")]
    return dict(zip(flags[::2], flags[1::2], strict=True))


def test_a_config_file_makes_nothing_unsafe():
    set_to = options(arguments(Path("a.atlas"), port=1, host="127.0.0.1", open_browser=False))
    assert {
        "--server.enableXsrfProtection": "true",
        "--server.enableCORS": "true",
        "--server.enableStaticServing": "false",
        "--server.maxUploadSize": str(UPLOAD_MEGABYTES),
        "--server.maxMessageSize": "200",
        "--server.address": "127.0.0.1",
        "--client.showErrorDetails": "none",
        "--logger.hideWelcomeMessage": "true",
    }.items() <= set_to.items()


def test_the_script_is_told_of_read_only():
    line = arguments(Path("a.atlas"), port=1, host="127.0.0.1", open_browser=False, read_only=True)
    assert line[line.index("--") :] == ["--", "a.atlas", "--read-only"]
    assert "--read-only" not in arguments(Path("a.atlas"), port=1, host="127.0.0.1", open_browser=False)


def test_this_machine_alone_is_served():
    for function in (serve, app):
        assert inspect.signature(function).parameters["host"].default == "127.0.0.1"


class TestInABrowser:
    pytestmark = IN_BROWSER

    def test_a_rebound_name_is_turned_away(self, server: str):
        """DNS rebinding: the browser says the name under which it looks for us."""
        port = urlsplit(server).port
        assert upgraded(server, f"127.0.0.1:{port}") == upgraded(server, f"localhost:{port}") == 101
        assert upgraded(server, f"evil.example:{port}") == 403

    def test_another_sites_page_is_turned_away(self, server: str):
        port = urlsplit(server).port
        assert upgraded(server, f"127.0.0.1:{port}", origin="http://evil.example") == 403

    @pytest.mark.slow
    def test_uploads_are_small_and_need_a_token(
        self, demo_atlas: Path, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("STREAMLIT_SERVER_ENABLE_XSRF_PROTECTION", "false")
        monkeypatch.setenv("STREAMLIT_SERVER_MAX_UPLOAD_SIZE", "1000")
        with serving(demo_atlas) as server:
            page = open_page(address(server, "look", network=IMAGE, target=SITE))
            answered(page)
            page.get_by_role("button", name="Upload an image").click()
            with page.expect_request(lambda request: request.method == "PUT") as sent:
                page.locator('input[type="file"]').set_input_files(
                    files=[{"name": "no.png", "mimeType": "image/png", "buffer": b"no picture"}]
                )
            url, token = sent.value.url, sent.value.headers.get("x-xsrftoken", "")
            put = """async ([url, token, megabytes]) => {
                const form = new FormData()
                form.append("file", new Blob([new Uint8Array(megabytes * 1024 * 1024)]), "large.png")
                return (await fetch(url, {method: "PUT", body: form, headers: {"X-Xsrftoken": token}})).status
            }"""
            assert page.evaluate(put, [url, token, 1]) == 204
            assert page.evaluate(put, [url, token, UPLOAD_MEGABYTES + 1]) == 413
            assert page.evaluate(put, [url, "no token", 1]) == 403

    @pytest.mark.slow
    def test_read_only_until_ctrl_c(self, server: str, demo_atlas: Path, open_page: OpenPage):
        """Nothing can be named. Ctrl-C ends the server with status 0, and its port is free."""
        state = {"network": IMAGE, "target": SITE, "cluster": 0}
        page = open_page(address(server, "cluster", **state))
        answered(page)
        expect(page.locator(NAMING)).to_have_count(1)
        port = free_port()
        words = ("app", str(demo_atlas), "--read-only", "--no-browser", "--port", str(port))
        with running("app.cli.main", *words) as command:
            page = open_page(address(answering(port, lambda: not command.is_alive()), "cluster", **state))
            answered(page)
            expect(page.locator("h1")).to_have_text("Cluster")
            expect(page.get_by_role("heading", name=re.compile(r"\d members$"))).to_be_visible()
            expect(page.locator(NAMING)).to_have_count(0)
            os.kill(command.pid, signal.SIGINT)
            command.join(LONGEST)
            assert command.exitcode == 0
        with closing(socket.socket()) as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


def upgraded(server: str, host: str, origin: str | None = None) -> int:
    """The status of the answer to who asks for the websocket of the server, under a name of it."""
    with closing(http.client.HTTPConnection(str(urlsplit(server).netloc), timeout=20)) as connection:
        connection.putrequest("GET", "/_stcore/stream", skip_host=True)
        for name, value in {
            "Host": host,
            "Origin": origin or f"http://{host}",
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }.items():
            connection.putheader(name, value)
        connection.endheaders()
        return connection.getresponse().status

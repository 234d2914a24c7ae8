"""A server of the atlas of the small networks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.app.http.listening")

from tests.app.http.listening import serving  # noqa: E402


@pytest.fixture(scope="module")
def url(built: Path) -> Iterator[str]:
    with serving(built) as address:
        yield address

"""What one input may take: larger ones are named with the limit, and memory stays bounded whatever comes in."""

from __future__ import annotations

import io
import json
import multiprocessing
import re
import resource
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from atlas.errors import UsageError
from atlas.network import Kind
from ingest.datasets.base import BadItem, Item
from ingest.datasets.sources import open_dataset
from tests.atlases import png
from tests.ingest.runs import children


def read(path: Path, kind: Kind = "text", **limits: Any) -> list[Item | BadItem]:
    return list(open_dataset(str(path), kind=kind, **limits).items())


def reasons(items: list[Item | BadItem]) -> list[str | None]:
    return [item.reason if isinstance(item, BadItem) else None for item in items]


def lines(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


TOO_LARGE = r"has 0\.00\d+ MB; at most 0\.001 are read \(--max-input-mb\)"


def test_a_long_text_is_named_and_skipped(tmp_path: Path) -> None:
    """In a file of its own, on a line, in a table; those beside it are read."""
    long, short = "word " * 400, "a short one"
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text(long)
    (tmp_path / "texts" / "b.txt").write_text(short)
    records = lines(tmp_path / "a.jsonl", {"text": long}, {"text": short}, {"text": "é" * 600, "x": "y" * 5000})
    pq.write_table(pa.table({"text": [long, short]}), tmp_path / "a.parquet")
    for path in (tmp_path / "texts", records, tmp_path / "a.parquet"):
        first, second, *more = read(path, max_input_mb=0.001)
        assert isinstance(first, BadItem) and isinstance(second, Item)
        assert re.fullmatch(TOO_LARGE, first.reason)
        assert all("is a line of more than 0.004 MB" in str(reason) for reason in reasons(more))


def test_a_long_line_keeps_line_numbers(tmp_path: Path) -> None:
    """A line is read in pieces: blank ones count, and the last may have no line break."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "one"}\n\n' + b'{"text": "' + b"x" * 3_000_000 + b'"}\n   \n{"text": "last"}')
    items = read(path, max_input_mb=0.1)
    assert [item.key for item in items] == ["a.jsonl:1", "a.jsonl:3", "a.jsonl:5"]
    assert [reason is None for reason in reasons(items)] == [True, False, True]
    assert reasons(read(path)) == [None, None, None]


def test_a_long_label_is_named(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"text": "one", "label": "x" * 1_000_000}, {"text": "two", "label": "y"})
    assert reasons(read(path)) == ["has a label of 1,000,000 characters; at most 1,000 are read (--max-label)", None]
    assert reasons(read(path, max_label=1_000_000)) == [None, None]


def test_a_large_image_is_named(tmp_path: Path) -> None:
    Image.new("L", (2000, 1000)).save(tmp_path / "a.png")
    said = "has 2000 x 1000 pixels; at most 1,000,000 are read here: scale it down (--max-megapixels)"
    assert reasons(read(tmp_path / "a.png", "image", max_megapixels=1)) == [said]
    assert reasons(read(tmp_path / "a.png", "image")) == [None]


@pytest.mark.parametrize("limit", ["max_input_mb", "max_megapixels", "max_label"])
def test_a_limit_of_nothing_is_refused(limit: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="are more than 0"):
        read(tmp_path, **{limit: 0})


def bomb(path: Path, text: str, rows: int, **how: Any) -> Path:
    table = pa.table({"text": pa.array([text] * rows), "label": pa.array(["l"] * rows)})
    pq.write_table(table, path, compression="zstd", **how)
    return path


def test_a_table_that_unpacks_is_named(tmp_path: Path) -> None:
    """A column that unpacks to hundreds of times its bytes is no data: its rows are skipped one by one."""
    path = bomb(tmp_path / "a.parquet", "a" * 50_000, 2000, use_dictionary=False)
    assert path.stat().st_size < 100_000
    items = read(path, max_input_mb=0.1)
    assert len(items) == 2000 and all("unpack to 100; none is unpacked" in str(reason) for reason in reasons(items))
    assert reasons(read(path, max_input_mb=4)[:3]) == [None, None, None]


def _texts(path: Path) -> None:
    lines(path / "given.jsonl", {"text": "x" * 60_000_000}, {"text": "short"})


def _again_and_again(path: Path) -> None:
    """A text of 3 MB that stands there once, and 250 times."""
    bomb(path / "given.parquet", "wörd " * 500_000, 250)


def _photograph(path: Path) -> None:
    image = Image.new("RGBA", (6000, 6000), (1, 2, 3, 4))
    encoded = io.BytesIO()
    image.save(encoded, "PNG", compress_level=1)
    pq.write_table(pa.table({"image": [encoded.getvalue(), png(image.crop((0, 0, 9, 9)))]}), path / "given.parquet")


HUGE: dict[str, tuple[Kind, Callable[[Path], None]]] = {
    "a line of 60 MB": ("text", _texts),
    "one text many times": ("text", _again_and_again),
    "36 transparent megapixels": ("image", _photograph),
}
"""What is made, and its kind; another joins by a line."""

MOST_BYTES = 500_000_000
"""Of memory that reading any of it takes."""


@pytest.mark.slow
@pytest.mark.parametrize("what", HUGE)
def test_memory_is_bounded_whatever_comes(what: str, tmp_path: Path) -> None:
    kind, make = HUGE[what]
    make(tmp_path)
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = children().Process(target=_measure, args=(theirs, tmp_path, kind))
    process.start()
    n_items, taken = ours.recv()
    process.join()
    assert n_items >= 1 and taken < MOST_BYTES


def _measure(pipe: Connection, folder: Path, kind: Kind) -> None:
    """How much the peak of this process grows while it reads."""
    [path] = folder.iterdir()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    n_items = sum(isinstance(item, Item) for item in open_dataset(str(path), kind=kind).items())
    pipe.send((n_items, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)))

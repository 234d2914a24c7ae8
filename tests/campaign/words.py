"""Words that a hostile or a tired person types, and files that they give: what the fuzzing tests draw from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st
from typer.main import get_command

from app.cli.commands import cli

COMMANDS: dict[str, Any] = get_command(cli).commands  # type: ignore[attr-defined]

QUICK = [
    "boundaries",
    "class-density",
    "cluster",
    "clusterings",
    "clusters",
    "density",
    "index",
    "info",
    "members",
    "membership",
    "name",
    "names",
    "nearest",
    "neighbors",
    "sql",
]
"""Commands that answer in a fraction of a second on a small atlas."""

WORDS = [
    "blocks.3.mlp",
    "blocks.1.mlp->",
    "conv1",
    "conv1:full",
    "->",
    "words",
    "pixels",
    "codes",
    "activations",
    "fruit",
    "",
    " ",
    "-1",
    "0",
    "1",
    "7",
    "360",
    "999999999999999999999",
    "1e309",
    "nan",
    "-0.5",
    "0.5,0.5",
    "1,2,3",
    "0101",
    "1" * 9,
    "label = 'fruit'",
    "select 1",
    "select * from codes",
    "'; drop table codes; --",
    "1) or (1=1",
    "/dev/null",
    "/",
    "..",
    "a\x00b",
    "\x1b[2J",
    "\u202e\u200b",
    "[bold]x[/nope]",
    "😀" * 50,
    "x" * 5000,
    "\udcff",
]

NUMBERS = [
    "0",
    "-1",
    "1",
    "2",
    "5",
    "100000",
    str(2**31),
    str(2**63),
    str(2**64),
    "0.5",
    "nan",
    "inf",
    "-inf",
    "1e-300",
]


def words_for(parameter: Any) -> st.SearchStrategy[str]:
    """Words for an argument or the value of an option, fitting ones among them."""
    kind = getattr(parameter, "type", None)
    if kind is not None and kind.name == "choice":
        return st.sampled_from([*map(str, kind.choices), "nothing", ""])
    if kind is not None and kind.name in ("integer", "float"):
        return st.sampled_from(NUMBERS) | st.integers().map(str) | st.floats(allow_nan=False).map(repr)
    return st.sampled_from(WORDS) | st.text(max_size=20).filter(lambda text: "\x00" not in text)


@st.composite
def command_lines(draw: Callable[..., Any], names: list[str]) -> list[str]:
    """A command without its atlas: some of its options, each with a word, and its arguments."""
    name = draw(st.sampled_from(names))
    line = [name]
    options = [p for p in COMMANDS[name].params if p.param_type_name == "option" and p.name not in ("output", "help")]
    for option in draw(st.lists(st.sampled_from(options), max_size=4, unique_by=lambda p: p.name)):
        line.append(option.opts[0])
        if not option.is_flag:
            line.append(draw(words_for(option)))
    arguments = [p for p in COMMANDS[name].params if p.param_type_name == "argument" and p.name != "atlas"]
    return [*line, "--", "ATLAS", *(draw(words_for(argument)) for argument in arguments)]


def json_line(value: Any) -> bytes:
    return json.dumps(value).encode(errors="replace")


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
VALUES = st.recursive(
    LEAVES, lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=5), some, max_size=3)
)
RECORDS = st.dictionaries(st.sampled_from(["text", "label", "x", "", "TEXT"]), VALUES, max_size=4)
LINES = st.lists(RECORDS.map(json_line) | st.binary(max_size=60), max_size=6).map(b"\n".join)
ROWS = st.lists(
    st.lists(st.sampled_from(["1", "-0.5", "nan", "1e999", "a", '"', "", "é", "\x00"]), max_size=4), max_size=5
)


def _table(columns: list[tuple[str, list[Any]]]) -> bytes:
    arrays = [pa.array(values) for _, values in columns]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays(arrays, [name for name, _ in columns]), sink)
    return bytes(sink.getvalue())


COLUMNS = st.one_of(
    *(
        st.lists(leaf, min_size=2, max_size=2)
        for leaf in (
            st.text(max_size=9),
            st.integers(-9, 9),
            st.floats(),
            st.none(),
            st.binary(max_size=9),
            st.booleans(),
        )
    ),
    st.lists(st.lists(st.floats(), max_size=3), min_size=2, max_size=2),
)
TABLES = st.lists(st.tuples(st.sampled_from(["text", "label", "image", "vector", "a"]), COLUMNS), max_size=4).map(
    _table
)


@st.composite
def damaged(draw: Callable[..., Any], files: st.SearchStrategy[bytes]) -> bytes:
    """Files, of which some are cut and some have a byte changed."""
    content = bytearray(draw(files))
    if content and draw(st.booleans()):
        place = draw(st.integers(0, len(content) - 1))
        if draw(st.booleans()):
            del content[place:]
        else:
            content[place] ^= draw(st.integers(1, 255))
    return bytes(content)


FILES: dict[str, st.SearchStrategy[bytes]] = {
    ".jsonl": damaged(LINES),
    ".csv": damaged(ROWS.map(lambda rows: "\n".join(map(",".join, rows)).encode())),
    ".parquet": damaged(TABLES),
    ".txt": st.binary(max_size=200),
    ".png": st.binary(max_size=200),
    ".npy": st.binary(max_size=200),
}
"""Files by their suffix; a new format joins by a line."""

KINDS = {".jsonl": ["text"], ".csv": ["vector"], ".parquet": ["text", "image", "vector"], ".txt": ["text"]}
KINDS |= {".png": ["image"], ".npy": ["vector"]}


def write(folder: Path, suffix: str, content: bytes) -> Path:
    path = folder / f"given{suffix}"
    path.write_bytes(content)
    return path

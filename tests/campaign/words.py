"""Words that a hostile or a tired person types, and files that they give: what the fuzzing tests draw from."""

from __future__ import annotations

import io
import json
from ast import literal_eval
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st
from PIL import Image
from typer.main import get_command

from app.cli.commands import cli
from atlas.errors import PolytopeError
from atlas.network import Kind
from ingest.datasets.base import BadItem, Item
from ingest.datasets.coded import open_codes
from ingest.datasets.sources import open_dataset

GROUP = "experiment"


def _commands() -> dict[str, Any]:
    """Every command by its words: ``nearest``, ``experiment density``."""
    found = dict(get_command(cli).commands)  # type: ignore[attr-defined]
    group = found.pop(GROUP)
    return found | {f"{GROUP} {name}": group.get_command(None, name) for name in group.list_commands(None)}


COMMANDS = _commands()

SERVES = {"app", "demo", "mcp", "serve"}
"""Commands that go on where nothing is wrong: what serves, and what makes an atlas where there is none."""

LONG = {
    "layout",
    "report",
    "tour",
    *(name for name in COMMANDS if name.startswith(GROUP) and name != f"{GROUP} list"),
}
"""Commands that ask much: fuzzed words of theirs are of an atlas that is none."""

REQUIRED = {
    "cluster": "0",
    "distances": "1",
    "examples": "1",
    "words": "text",
    "x": "1",
    "y": "2",
    "site": "first",
    "span": "first->",
    "embedding_atlas": "map.parquet",
    "destination": "pushed",
    "source": "nothing-pushed",
    "atlases": "none.atlas",
    "old": "none.atlas",
    "new": "new.atlas",
}
"""A word that fits each parameter that some command must be given; one of a new command's joins by a line."""


def types_of(name: str) -> dict[str, str]:
    """Of each parameter of a command what it holds, as Python writes it: ``int | None``."""
    parameters = signature(COMMANDS[name].callback, eval_str=True).parameters
    return {
        key: str(get_args(p.annotation)[0] if get_args(p.annotation) else p.annotation)
        for key, p in parameters.items()
    }


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


def words_for(kind: str) -> st.SearchStrategy[str]:
    """Words for a parameter that holds such things, fitting ones among them."""
    if kind.startswith("typing.Literal"):
        return st.sampled_from(
            [*literal_eval(kind.removeprefix("typing.Literal").split("]")[0] + "]"), "nothing", ""]
        )
    if "int" in kind or "float" in kind:
        return st.sampled_from(NUMBERS) | st.integers().map(str) | st.floats(allow_nan=False).map(repr)
    return st.sampled_from(WORDS) | st.text(max_size=20).filter(lambda text: "\x00" not in text)


@st.composite
def command_lines(draw: Callable[..., Any]) -> list[str]:
    """Any command but the one that takes a minute: some of its options, each with a word, and its arguments."""
    name = draw(st.sampled_from(sorted(COMMANDS.keys() - {"demo"})))
    line, kinds = name.split(), types_of(name)
    options = [p for p in COMMANDS[name].params if p.param_type_name == "option" and p.name not in ("output", "help")]
    for option in draw(st.lists(st.sampled_from(options), max_size=4, unique_by=lambda p: p.name)) if options else []:
        line.append(option.opts[0])
        if not option.is_flag:
            line.append(draw(words_for(kinds[option.name])))
    arguments = [p.name for p in COMMANDS[name].params if p.param_type_name == "argument"]
    place = "NOWHERE" if name in LONG | SERVES else "ATLAS"
    places = {"atlas": place, "atlases": place, "destination": "pushed"}  # any other folder might be somebody's
    return [*line, "--", *(places.get(each) or draw(words_for(kinds[each])) for each in arguments)]


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
    st.lists(st.lists(st.booleans(), max_size=3), min_size=2, max_size=2),
)
TABLES = st.lists(
    st.tuples(st.sampled_from(["key", "text", "label", "image", "vector", "a"]), COLUMNS), max_size=4
).map(_table)


CODED = st.lists(st.lists(st.booleans(), min_size=9, max_size=9), min_size=1, max_size=6).map(
    lambda codes: _table([("key", [str(n) for n in range(len(codes))]), ("a", codes)])
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


def _image(name: str) -> st.SearchStrategy[bytes]:
    def encoded(size: tuple[int, int], mode: str) -> bytes:
        file = io.BytesIO()
        Image.new(mode, size).save(file, name)
        return file.getvalue()

    return st.builds(encoded, st.tuples(st.integers(1, 9), st.integers(1, 9)), st.sampled_from(["L", "RGB"]))


def _array(shape: tuple[int, ...], dtype: str) -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(shape, dtype))
    return file.getvalue()


def _archive(arrays: dict[str, tuple[tuple[int, ...], str]]) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **{name: np.zeros(*array) for name, array in arrays.items()})
    return file.getvalue()


TYPES = ["f4", "f8", "i8", "u1", "bool", "c8", "U3", "M8[s]"]
ARRAYS = st.builds(_array, st.lists(st.integers(0, 4), max_size=3).map(tuple), st.sampled_from(TYPES))
ARCHIVES = st.builds(
    _archive,
    st.dictionaries(
        st.sampled_from(["key", "label", "text", "image", "a", "b"]),
        st.tuples(st.lists(st.integers(0, 3), max_size=4).map(tuple), st.sampled_from(TYPES)),
    ),
)
BYTES = st.binary(max_size=200)


@dataclass(frozen=True)
class FileFormat:
    """Files of a format, and the kinds of inputs that are looked for in them."""

    content: st.SearchStrategy[bytes]
    kinds: tuple[Kind | Literal["codes"], ...]

    def read(self, path: Path) -> Iterator[Item | BadItem | PolytopeError]:
        """What is found in one, looked at as each kind in turn."""
        for kind in self.kinds:
            try:
                yield from (open_codes(path)[1] if kind == "codes" else open_dataset(str(path), kind=kind)).items()
            except PolytopeError as error:
                yield error


FILES = {
    ".jsonl": FileFormat(damaged(LINES), ("text",)),
    ".csv": FileFormat(damaged(ROWS.map(lambda rows: "\n".join(map(",".join, rows)).encode())), ("vector",)),
    ".parquet": FileFormat(damaged(TABLES | CODED), ("text", "image", "vector", "codes")),
    ".txt": FileFormat(BYTES | st.text(max_size=99).map(lambda text: text.encode(errors="replace")), ("text",)),
    ".png": FileFormat(damaged(_image("PNG")) | BYTES, ("image",)),
    ".jpg": FileFormat(damaged(_image("JPEG")), ("image",)),
    ".gif": FileFormat(damaged(_image("GIF")), ("image",)),
    ".tif": FileFormat(damaged(_image("TIFF")), ("image",)),
    ".npz": FileFormat(damaged(ARCHIVES) | BYTES, ("codes",)),
    ".npy": FileFormat(damaged(ARRAYS) | BYTES, ("vector",)),
}
"""By their suffix; a new format joins by a line."""


def write(folder: Path, suffix: str, content: bytes) -> Path:
    path = folder / f"given{suffix}"
    path.write_bytes(content)
    return path

"""The data sets that every installation carries: Python's own text, scikit-learn's digits and its two moons.

They need no download, so the shipped networks are trained on them and the demo reads them. All are divided for
good into a training part and a held-out part that the shipped networks never saw.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image

from atlas.errors import EmptyDataset, UsageError
from atlas.network import Kind

from .base import BadItem, Item, Request, advice_for, ordinals, refuse_label_column, text_item
from .images import pixels_hash
from .vectors import vector_item

Split = Literal["all", "train", "heldout"]

HELDOUT_ONE_IN = 8
"""One module or topic in so many is held out."""

MIN_DOCSTRING_CHARS = 600
"""Modules with less prose than this give no `docstring` text: too short for a 256-token context."""

HELDOUT_DIGITS = 599
"""The last third of scikit-learn's 1,797 digits."""

MIN_QUOTED_CHARS = 120
"""Paragraphs at least this long count as quoted when two topics share them; shorter ones are often set phrases."""

MOONS, HELDOUT_MOONS = 1000, 200

MOONS_NOISE = 0.15
"""The moons are 0.5 apart where they are nearest: their points mix a little, as those of real classes do."""

_NOT_PROSE_OR_PROGRAM = {"test", "tests", "idlelib", "lib2to3", "pydoc_data", "site-packages", "dist-packages"}


PARTS: dict[str, tuple[Kind, Split]] = {
    "python": ("text", "all"),
    "python-train": ("text", "train"),
    "python-heldout": ("text", "heldout"),
    "digits": ("image", "all"),
    "digits-train": ("image", "train"),
    "digits-heldout": ("image", "heldout"),
    "digits-vectors": ("vector", "all"),
    "digits-vectors-train": ("vector", "train"),
    "digits-vectors-heldout": ("vector", "heldout"),
    "two-moons": ("vector", "all"),
    "two-moons-train": ("vector", "train"),
    "two-moons-heldout": ("vector", "heldout"),
}
"""What ``builtin:NAME`` may name: the kind and the part."""


@dataclass(frozen=True)
class BuiltinText:
    """A text of the standard library; `label` is its kind: topic, source, encoding or docstring."""

    key: str
    label: str
    text: str


@dataclass(frozen=True)
class BuiltinImage:
    """An 8 x 8 greyscale image (mode "L"); `label` is the digit it shows."""

    key: str
    label: str
    image: Image.Image


class BuiltinItems:
    """A dataset that every installation carries: 12 million characters, or some thousand tiny images or vectors, all
    held."""

    ignored: Mapping[str, int] = {}

    def __init__(self, request: Request, name: str, items: Sequence[Item | BadItem]) -> None:
        self.name, self.source, self.kind = name, request.source, request.kind
        self._items = items
        identity = hashlib.sha256()
        for item in items:
            known = item.reason if isinstance(item, BadItem) else f"{item.label}\0{item.content_hash}"
            identity.update(f"{item.key}\0{known}\n".encode())
        self.fingerprint = identity.hexdigest()

    def __len__(self) -> int:
        return len(self._items)

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item | BadItem]:
        return map(self._items.__getitem__, ordinals(len(self), start, stop))


def open_builtin(request: Request) -> BuiltinItems:
    """The dataset ``builtin:NAME``. Raises `UsageError` for another name, `EmptyDataset` for the other kind."""
    source, name = request.source, request.source.removeprefix("builtin:")
    if name not in PARTS:
        raise UsageError(f"there is no {source}; there are: {', '.join(f'builtin:{known}' for known in PARTS)}")
    refuse_label_column(request, "a builtin dataset has its own labels")
    kind, part = PARTS[name]
    if kind != request.kind:
        raise EmptyDataset(f"{source} holds {kind}s; {advice_for(kind)}")
    items = list(_ITEMS[name.removesuffix(f"-{part}")](part))
    return BuiltinItems(request, request.name or name, items)


def python_texts(split: Split) -> Iterator[BuiltinText]:
    """The standard library of the running Python as labelled texts, in an order that mixes the kinds.

    - `topic`: the language reference as `help("topics")` carries it (`pydoc_data.topics`).
    - `source`: a module's source code.
    - `encoding`: the source of a module of `encodings`, most of them tables of characters.
    - `docstring`: the docstrings of one module, its classes and its functions, joined by blank lines.

    Which part a text belongs to depends on its path alone, so it is the same on every machine and, for modules that
    keep their name, in every version of Python. A module's source and its docstrings fall into the same part.
    Topics that quote a paragraph of another topic are never held out: they would be known from training. (Encoding
    tables resemble one another across the two parts all the same, so a loss on held-out ones flatters.)

    The order is that of the keys' SHA-256: any prefix is a fair sample of the kinds.
    """
    _check_split(split)
    candidates = [
        (f"{part}/{label}/{path}", label, read)
        for part, label, path, read in (*_topics(), *_modules())
        if split in ("all", part)
    ]
    for key, label, read in sorted(candidates, key=lambda candidate: hashlib.sha256(candidate[0].encode()).digest()):
        text = read()
        if text is not None and text.strip():
            yield BuiltinText(key, label, text)


def digit_images(split: Split) -> Iterator[BuiltinImage]:
    """scikit-learn's copy of the UCI optical digits test set: 1,797 images of 8 x 8, 0..16 stretched to 0..255.

    The last third is held out. The file holds the digits of 13 people in runs by one hand (scikit-learn's tests find
    the samples "grouped by authors", without the places where one ends), so this third is mostly by other hands than
    the first two: harder, and more honest, than drawing a third at random.
    """
    _check_split(split)
    from sklearn.datasets import load_digits  # a second of import time, and `python_texts` has no use for it

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    for index, part in _places(split, len(pixels), HELDOUT_DIGITS):
        yield BuiltinImage(f"{part}/{index:04}.png", str(digits.target[index]), Image.fromarray(pixels[index]))


def _places(split: Split, count: int, heldout: int) -> Iterator[tuple[int, str]]:
    """Which of ``count`` belong to a part, each with its part; the last ``heldout`` are held out."""
    _check_split(split)
    for index in range(count):
        part = "train" if index < count - heldout else "heldout"
        if split in ("all", part):
            yield index, part


def _text_items(split: Split) -> Iterator[Item | BadItem]:
    for ordinal, text in enumerate(python_texts(split)):
        yield text_item(ordinal, text.key, text.label, text.text)


def _image_items(split: Split) -> Iterator[Item | BadItem]:
    for ordinal, digit in enumerate(digit_images(split)):
        yield Item(ordinal, digit.key, digit.label, digit.image, pixels_hash(digit.image))


def _digit_items(split: Split) -> Iterator[Item | BadItem]:
    """The digits with their 8 x 8 numbers as scikit-learn has them, from 0 to 16."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for ordinal, (index, part) in enumerate(_places(split, len(digits.images), HELDOUT_DIGITS)):
        yield vector_item(ordinal, f"{part}/{index:04}", str(digits.target[index]), digits.images[index])


def _moon_items(split: Split) -> Iterator[Item | BadItem]:
    """scikit-learn's two interleaved half circles, 1,000 points of the plane, drawn with seed 0."""
    from sklearn.datasets import make_moons

    points, moons = make_moons(MOONS, noise=MOONS_NOISE, random_state=0)
    for ordinal, (index, part) in enumerate(_places(split, MOONS, HELDOUT_MOONS)):
        yield vector_item(ordinal, f"{part}/{index:04}", ("upper", "lower")[moons[index]], points[index])


_ITEMS: dict[str, Callable[[Split], Iterator[Item | BadItem]]] = {
    "python": _text_items,
    "digits": _image_items,
    "digits-vectors": _digit_items,
    "two-moons": _moon_items,
}


def _check_split(split: str) -> None:
    if split not in get_args(Split):
        raise ValueError(f"split is {split!r}; expected one of {', '.join(map(repr, get_args(Split)))}")


def _part(path: str) -> str:
    """The part that a path belongs to, by its SHA-256: Python's own `hash` of a string differs between runs."""
    return "heldout" if hashlib.sha256(path.encode()).digest()[0] % HELDOUT_ONE_IN == 0 else "train"


_Candidate = tuple[str, str, str, Callable[[], str | None]]
"""Part, label, path, and a function that reads the text, or gives None where there is none worth having."""


def _topics() -> Iterator[_Candidate]:
    from pydoc_data.topics import topics

    paragraphs = {name: _long_paragraphs(text) for name, text in topics.items()}
    uses = Counter(paragraph for name in topics for paragraph in paragraphs[name])
    for name, text in topics.items():
        path = f"topic/{name}"
        quotes = any(uses[paragraph] > 1 for paragraph in paragraphs[name])
        yield "train" if quotes else _part(path), "topic", name, partial(str, text)


def _long_paragraphs(text: str) -> set[str]:
    """Paragraphs without their line breaks: a quotation may be indented, and wrapped, differently."""
    paragraphs = (" ".join(block.split()) for block in re.split(r"\n\s*\n", text))
    return {paragraph for paragraph in paragraphs if len(paragraph) >= MIN_QUOTED_CHARS}


def _modules() -> Iterator[_Candidate]:
    root = Path(sysconfig.get_paths()["stdlib"])
    for file in sorted(root.rglob("*.py")):
        module = file.relative_to(root)
        # Only what can be imported: `config-3.12-x86_64-linux-gnu/` and the like describe this machine's build ...
        importable = all(name.isidentifier() for name in module.with_suffix("").parts)
        # ... and so does this module, whose name ends in the platform.
        if not importable or module.name.startswith("_sysconfigdata") or _NOT_PROSE_OR_PROGRAM & set(module.parts):
            continue
        path = module.as_posix()
        label = "encoding" if module.parts[0] == "encodings" else "source"
        yield _part(path), label, path, partial(_read_source, file)
        yield _part(path), "docstring", path, partial(_read_docstrings, file)


def _read_source(file: Path) -> str | None:
    """The source, or None if it is not UTF-8."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        # Such files name another encoding in their first line, or break theirs on purpose for a parser to stumble
        # over. Either way the text would come out wrong, and a few files are no loss.
        return None


def _read_docstrings(file: Path) -> str | None:
    """The module's docstrings in the order of the source, or None if there is little in them."""
    source = _read_source(file)
    if source is None:
        return None
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a template or a deliberately broken file: it has no docstrings to find
        return None
    docstrings = map(ast.get_docstring, _documented(tree))
    text = "\n\n".join(docstring for docstring in docstrings if docstring)
    return text if len(text) >= MIN_DOCSTRING_CHARS else None


def _documented(node: ast.AST) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """What may have a docstring, in the order of the source."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.expr):  # most of a module, and nothing in there has one
            yield from _documented(child)

"""A thing that is pinned, as a short string that an address holds, and as an argument of questions."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import streamlit as st

from atlas.errors import NotStored, UsageError
from atlas.images import decode_image
from atlas.network import Kind
from query.examples.subjects import Given

from ...plain_text import numbers, one_line

LINK_LIMIT = 1500
"""Characters of a text that an address carries: escaped they are more, and some programs cut links at 2,000."""

KEPT_BYTES = 128_000_000
"""Of images and long texts of all sessions that are kept for pins."""

DIGEST = 16
"""Hexadecimal digits by which a pin names what is kept."""

_FORMS = {
    "example": (r"0|[1-9]\d{0,9}", "example:17"),
    "cluster": (r"(?:0|[1-9]\d{0,9}):(?:-1|0|[1-9]\d{0,9})", "cluster:4:12 for cluster 12 of clustering 4"),
    "token": (r"\d{1,9}:\d{1,9}:\d{1,9}:.+", "token:4:9:1:A token"),
    "text": (rf"\d{{1,9}}:\d{{1,9}}:\d{{1,9}}:[0-9a-f]{{{DIGEST}}}", "text: and a digest"),
    "image": (rf"[0-9a-f]{{{DIGEST}}}", "image: and a digest"),
    "vector": (r"[-+.,\deE ]+", "vector:0.3,1.2"),
}
"""Of each kind what follows its name, and an example of it."""

READS: dict[str, Kind] = {"token": "text", "text": "text", "image": "image", "vector": "vector"}
"""Of what is not stored, what a network reads that can be asked about it."""


@dataclass(frozen=True)
class Pin:
    """``kind``: example, cluster, token, text (a token of one that this server keeps), image or vector.

    ``rest``: which one, as an address has it. ``network``: the one that reads what is not stored; empty in addresses
    of earlier editions, and for examples and clusters, whose network the atlas knows."""

    kind: str
    rest: str
    network: str = ""

    @classmethod
    def read(cls, word: str) -> Pin:
        """The pin that an address names; a number alone is an example. `UsageError` for what is none."""
        named, _, rest = word.partition(":") if not word.isdecimal() else ("example", "", word)
        kind, at, network = named.partition("@")
        if at and (not network or kind not in READS):
            raise UsageError(f"expected {kind} without a network")
        if kind not in _FORMS or not re.fullmatch(_FORMS[kind][0], rest, re.DOTALL):
            raise UsageError(f"expected one of {', '.join(form for _, form in _FORMS.values())}")
        pin = cls(kind, rest, unquote(network))
        if kind == "token" and not pin.start < pin.end <= len(pin.text):
            raise UsageError("the token is not inside its text; expected token:START:END:NUMBER:TEXT")
        if kind == "vector":
            numbers("the vector", rest)
        return pin

    @property
    def word(self) -> str:
        """As an address names it."""
        at = f"@{quote(self.network, safe='')}" if self.network else ""
        return f"{self.kind}{at}:{self.rest}"

    @property
    def place(self) -> str:
        """Letters that tell it from others, for the key of a widget."""
        return hashlib.blake2b(self.word.encode(), digest_size=6).hexdigest()

    @property
    def of_text(self) -> bool:
        """Whether it is a token of a text that was not ingested."""
        return self.kind in ("token", "text")

    @property
    def number(self) -> int:
        """Of an example."""
        return int(self.rest)

    @property
    def cluster(self) -> tuple[int, int]:
        """Of a cluster: clustering and number; -1 is noise."""
        clustering, cluster = self.rest.split(":")
        return int(clustering), int(cluster)

    @property
    def text(self) -> str:
        """That a token is of; `NotStored` where this server does not keep it any more."""
        last = self.rest.split(":", 3)[3]
        return last if self.kind == "token" else _fetch(last, "the text").decode()

    @property
    def start(self) -> int:
        """The character of its text at which a token begins."""
        return int(self.rest.split(":", 3)[0])

    @property
    def end(self) -> int:
        """The character after a token."""
        return int(self.rest.split(":", 3)[1])

    @property
    def token(self) -> int:
        """Number of a token in its text."""
        return int(self.rest.split(":", 3)[2])

    @property
    def image(self) -> bytes:
        """The file of an image; `NotStored` where this server does not keep it any more."""
        return _fetch(self.rest, "the image")

    @property
    def words(self) -> str:
        """What it is called in a sentence, without looking at the atlas."""
        if self.kind == "example":
            return f"example {self.number}"
        if self.kind == "cluster":
            clustering, cluster = self.cluster
            return f"{'noise' if cluster < 0 else f'cluster {cluster}'} of clustering {clustering}"
        if self.kind == "token":
            return f"token {self.token} '{one_line(self.text[self.start : self.end])}'"
        if self.kind == "text":
            return f"token {self.token} of a long text"
        return "an uploaded image" if self.kind == "image" else f"the vector {one_line(self.rest)}"

    @property
    def subject(self) -> dict[str, Any]:
        """The arguments of `query.subject` that mean it, an image as its file. Raises `UsageError` for a cluster."""
        if self.kind == "example":
            return {"example": self.number}
        if self.of_text:
            return {"text": self.text, "token": self.token}
        if self.kind == "image":
            return {"image": self.image}
        if self.kind == "vector":
            return {"vector": numbers("the vector", self.rest)}
        raise UsageError(f"{self.words} is no example; pin one of its members")


def example(number: int) -> Pin:
    return Pin("example", str(int(number)))


def cluster(clustering: int, cluster: int) -> Pin:
    return Pin("cluster", f"{int(clustering)}:{int(cluster)}")


def token(text: str, tokens: Sequence[str], number: int, network: str) -> Pin:
    """A token of a text that was not ingested; ``tokens`` are the characters of each."""
    start = sum(map(len, tokens[:number]))
    where = f"{start}:{start + len(tokens[number])}:{number}"
    if len(text) > LINK_LIMIT:
        return Pin("text", f"{where}:{_keep(text.encode(errors='surrogatepass'))}", network)
    return Pin("token", f"{where}:{text}", network)


def image(data: bytes, network: str) -> Pin:
    """An image that was uploaded: its file, which this server keeps for as long as it has room."""
    return Pin("image", _keep(data), network)


def vector(given: Sequence[float], network: str) -> Pin:
    return Pin("vector", ",".join(f"{number:.9g}" for number in given), network)


def given(subject: Mapping[str, Any]) -> Given:
    """What arguments of `query.subject` mean, an image among them as its file."""
    return Given(**{**subject, **({"image": decode_image(subject["image"])} if "image" in subject else {})})


# --- what no address could hold --------------------------------------------------------------------------------


@st.cache_resource(show_spinner=False)
def _kept() -> OrderedDict[str, bytes]:
    """What pins of all sessions name, by digest, what was used last at the end."""
    return OrderedDict()


def _keep(data: bytes) -> str:
    digest, kept = hashlib.sha256(data).hexdigest()[:DIGEST], _kept()
    kept[digest] = data
    kept.move_to_end(digest)
    while sum(map(len, kept.values())) > KEPT_BYTES:
        kept.popitem(last=False)
    return digest


def _fetch(digest: str, what: str) -> bytes:
    data = _kept().get(digest)
    if data is None:
        raise NotStored(f"{what} is not kept any more; open it on Look and pin it again")
    return data

"""The text around the token of a stored example."""

from __future__ import annotations

from typing import NamedTuple

from atlas import Atlas

from ..notebook import token_in_context
from .ids import checked_id, network_of


class Passage(NamedTuple):
    """Characters around a token: it starts at ``offset`` of ``text``; ``whole``: whether that is all of the input."""

    text: str
    token: str
    offset: int
    whole: bool

    def _repr_html_(self) -> str:
        return token_in_context(self.text, self.token, self.offset, before=len(self.text), after=len(self.text))


def passage(atlas: Atlas, example: int, *, before: int = 1600, after: int = 700) -> Passage | None:
    """The text around the token of an example; None for an image.

    An example keeps the characters close to its token. Where those occur once in its input, more can be shown; where
    they occur several times, nobody knows which of them it was, and they alone are given.

    Args:
        atlas: an open atlas.
        example: id of a stored example.
        before: at most so many characters before the token.
        after: at most so many after it.

    Returns:
        The `Passage`.

    Raises:
        UnknownName: for an example that is not there.
    """
    network_of(atlas, example)
    [(text, token, context, offset)] = atlas.rows(
        """
        select text, token, context, context_offset from examples join inputs using (input_id) where example_id = $1
        """,
        [checked_id(example)],
    )
    if token is None or context is None:
        return None
    if text is None:  # the atlas was handed on without its inputs
        return Passage(context, token, offset, False)
    first = text.find(context)
    if first < 0 or text.find(context, first + 1) >= 0:
        return Passage(context, token, offset, context == text)
    start = first + offset
    low, high = max(0, start - before), start + len(token) + after
    return Passage(text[low:high], token, start - low, low == 0 and high >= len(text))

"""What jargon means, in one glossary: tooltips of the pages have it, and `docs/glossary.md` is written from it.

A tooltip opens under the pointer and under the keyboard's focus; a screen reader has it as the word's description.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import streamlit as st

from . import markup

TERMS: Mapping[str, str] = {
    "activation": "what the units of a site give, after the nonlinearity: a number a unit",
    "atlas": "a folder that holds what networks did on data: codes, activations, clusters, indexes",
    "boundary": "a hyperplane on which one gate flips, or two inputs of a max-pooling window are equal",
    "claim": "a sentence of the post, with the experiment that measures it and a rule that decides whether it holds",
    "class": "what a network of images predicts; also the label, where labels are classes",
    "cluster": "examples that HDBSCAN puts together, by their codes or activations; −1 is noise",
    "code, spline code": "one bit a gate of a site, on or off; equal codes name the same polytope",
    "control": "the same network with random weights, measured beside the trained one",
    "dataset": "a collection of inputs, under a name",
    "density": "boundaries between two examples, per unit of Euclidean distance between them",
    "entropy": "how evenly examples are spread over labels or clusters, in bits: 0 in one alone, 1 in two equally",
    "example": "one input, at one position, read by one network: a token of a text, an image at a place, a vector",
    "exact": "equal codes, and equal pooling switches, mean the same affine map; what is not exact says so",
    "experiment": "a question of the post as one command, with options, tables, a figure and a version",
    "facet": "a boundary that bounds the polytope of an example: the shortest way to it meets nothing before",
    "full": "codes at all spatial positions of an image network, `inception4c:full`, in place of one",
    "gate": "a unit's preactivation is positive (on) or not (off); each threshold of ReLU6 and the like has one",
    "Hamming distance": "how many gates differ between two codes: so many boundaries lie between them at least",
    "input": "a text, an image or a vector, stored once however often it was ingested",
    "interval": "where a number lies with 95 % confidence, unless another share is said",
    "kind": "text, image or vector",
    "label": "class or source of an input, as its dataset has it",
    "layout": "a map of examples in the plane, by UMAP",
    "lift": "how much commoner something is within a group than among all: 2 is twice as common",
    "logit": "a score that the network gives a class or a token before these become probabilities",
    "medoid": "the member of a cluster that is nearest to all others",
    "network": "a model together with how inputs are fed to it",
    "noise": "examples that HDBSCAN leaves in no cluster",
    "occupancy": "how many examples lie in a polytope",
    "odds": "how often a gate is on for each time that it is off",
    "polysemantic": "about several things: what activates a unit most bears several labels",
    "polytope": "a region of activation space in which a piecewise linear network is one affine map",
    "purity": "share of a cluster's members that bear its commonest label",
    "reading": "what a network did with an input; also how it is fed",
    "run": "one ingestion, from its plan to its tables",
    "shard": "a part of a run, or of a table that was pushed: a Parquet file",
    "site": "a block of a network at which codes are read: `blocks.5.mlp`, `inception4c`",
    "span": "consecutive sites: `inception4c->` is all after that one, up to the output",
    "subject": "what a question is about: an example, a text's token, an image, a vector, a code",
    "unit": "one coordinate of an activation; in the post, a neuron",
    "verdict": "what the rule of a claim decides: supported, not supported, or undecided, where intervals are wide",
}
"""Every word with what it means, in Markdown, as a part of a sentence; words with a comma between mean the same."""

JARGON = (
    "activation",
    "boundary",
    "density",
    "facet",
    "gate",
    "Hamming distance",
    "lift",
    "logit",
    "medoid",
    "occupancy",
    "polysemantic",
    "polytope",
    "purity",
    "site",
    "span",
    "spline code",
)
"""Words that are marked wherever a remark has them: those that a reader has never met, or met in another sense."""

_MEANINGS = {word.lower(): meaning for words, meaning in TERMS.items() for word in words.split(", ")}
_FORMS = {form.lower(): word for word in JARGON for form in (word, f"{word}s", re.sub("y$", "ies", word))}
_JARGON = re.compile(rf"\b({'|'.join(sorted(_FORMS, key=len, reverse=True))})\b", re.IGNORECASE)
_TAGS = re.compile(r"(<[^>]*>)")
_KEPT = re.compile(r"<(/?)(?:a|code|pre|mark|dfn|summary|button|h\d)\b")
"""Elements whose words are left as they are."""

_MARKED = "terms-marked"
"""Where a session keeps which words the page has marked: each is marked once, where a reader meets it first."""


def meaning(word: str) -> str:
    """What a word of the glossary means, as a sentence of Markdown: for ``help`` of a widget. Raises `KeyError`."""
    words = _MEANINGS[word.lower()]
    return f"{words[0].upper()}{words[1:]}."


def known(word: str) -> str:
    """What a word means, as plain words of a ``title``; nothing where it is no word of the glossary."""
    return meaning(word).replace("`", "") if word.lower() in _MEANINGS else ""


def term(word: str, shown: str | None = None) -> str:
    """HTML of a word of the glossary with its tooltip; ``shown``: the form that stands in the sentence."""
    said = markup.plain(meaning(word).replace("`", ""))
    return f'<dfn class="pa-term" tabindex="0" aria-description="{said}">{markup.plain(shown or word)}</dfn>'


def begin() -> None:
    """A page is drawn anew: what it marks first is marked again."""
    st.session_state[_MARKED] = set()


def marked(shown: str) -> str:
    """HTML in which jargon has its tooltip, once a page; links, code and headings are left alone."""
    seen: set[str] = st.session_state.setdefault(_MARKED, set())

    def once(match: re.Match[str]) -> str:
        word = _FORMS[match[0].lower()]
        if word in seen:
            return match[0]
        seen.add(word)
        return term(word, match[0])

    inside, parts = 0, []
    for part in _TAGS.split(shown):
        kept = _KEPT.match(part)
        inside += 0 if kept is None else -1 if kept[1] else 1
        parts.append(part if inside or part.startswith("<") else _JARGON.sub(once, part))
    return "".join(parts)


def page() -> str:
    """docs/glossary.md."""
    rows = [f"| {words} | {meaning} |" for words, meaning in TERMS.items()]
    return "\n".join([_HEAD, "| word | what it means |", "|---|---|", *rows, ""])


_HEAD = """# Words

A word means one thing here, in Python, on the command line, in SQL and in the explorer, whose tooltips say the same.
[SCIENCE.md](SCIENCE.md) has the formulas. `make docs` writes this page.
"""

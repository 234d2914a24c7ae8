"""A run does nothing twice: how often it opens the atlas, publishes, tokenises and runs the network is counted."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import atlas
from atlas.network import Reading, Site, Tokens, TokenWindow
from ingest import ingest
from tests.ingest.runs import SITES, SMALL, Watching, small_run, small_texts, texts
from tests.networks import WordReader, word_network

FOUR_SITES = replace(SMALL, sites=SITES, spans=())


class CountingNetwork:
    """`word_network`, counting what it is asked."""

    def __init__(self) -> None:
        self.inner: WordReader = word_network()
        self.info, self.sites = self.inner.info, self.inner.sites
        self.calls: Counter[str] = Counter()

    def tokenize(self, text: str) -> Tokens:
        self.calls["tokenize"] += 1
        return self.inner.tokenize(text)

    def windows(self, n_tokens: int) -> list[range]:
        return self.inner.windows(n_tokens)

    def token_text(self, token: int) -> str:
        return self.inner.token_text(token)

    def read(self, batch: Sequence[TokenWindow], codes: Sequence[Site], activations: Sequence[Site]) -> Reading:
        self.calls["read"] += 1
        self.calls["windows"] += len(batch)
        return self.inner.read(batch, codes, activations)


@pytest.fixture
def openings(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether for writing, of each time that the atlas is opened: `atlas.open` is the one way to it."""
    opened: list[bool] = []
    truly_open = atlas.open

    def counting(path: str | Path, *, writable: bool = False, **options: Any) -> atlas.Atlas:
        opened.append(writable)
        return truly_open(path, writable=writable, **options)

    monkeypatch.setattr(atlas, "open", counting)
    return opened


def test_one_text_at_four_sites_is_read_once(tmp_path: Path, openings: list[bool]) -> None:
    """One opening for a new atlas, one pass; tokenised to plan the run, and once more to read it."""
    network, steps = CountingNetwork(), Counter[str]()
    begun = Watching(lambda step, number: steps.update([step] * (number == 0)))
    ingest(tmp_path / "a", network, texts(small_texts(tmp_path / "words", 1)), FOUR_SITES, progress=begun)
    assert openings == [True] and steps["publish"] == 1
    assert network.calls == {"tokenize": 2, "read": 1, "windows": 2}


def test_a_grown_atlas_is_opened_twice(tmp_path: Path, openings: list[bool]) -> None:
    small_run(tmp_path / "a", small_texts(tmp_path / "words", 1), FOUR_SITES)
    openings.clear()
    small_run(tmp_path / "a", small_texts(tmp_path / "more", 3), FOUR_SITES)
    assert openings == [False, True]


def test_shard_tokenises_every_text_once(tmp_path: Path) -> None:
    """Every text of a shard is tokenised once."""
    network = CountingNetwork()
    outcome = small_run(tmp_path / "a", small_texts(tmp_path / "words", 9), network=network)
    assert len(outcome.plan.shards) == 3
    assert network.calls["tokenize"] == 2 * 9, "to plan the run, and to read it"

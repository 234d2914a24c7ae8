"""An atlas that many ask: answers end with their time, and nobody else's do."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from app.serving.limits import Limits
from app.serving.questions import questions
from app.serving.served import Served
from atlas.errors import AnswerTooSlow, UnknownName

SLOW = "select count(*) from range(100000000000) t(i) where hash(i) = 1"


def test_late_statements_are_interrupted(built: Path) -> None:
    """Those of one who asks alone; the others go on, and the atlas answers afterwards."""
    with Served(built, "three", Limits(seconds=0.3)) as served:
        others: list[int] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                others.append(served.look(lambda a: a.value("select count(*) from codes")))

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            with pytest.raises(AnswerTooSlow, match=r"takes longer than the 0\.3 s that this server allows"):
                served.look(lambda a: a.value(SLOW))
        finally:
            stop.set()
            asking.join()
        assert len(others) > 1 and len(set(others)) == 1
        assert served.alive()


def test_sentences_name_the_served_atlas(built: Path) -> None:
    """And not where it lies."""
    with Served(built, "three", Limits()) as served:
        with pytest.raises(UnknownName, match=r"no network 'none' in three; it holds plane, words"):
            served.ask("nearest", {"example": 20, "site": "conv1", "network": "none"})
        subject = served.ask("subject", {"example": 20, "site": "blocks.3.mlp", "network": "words"})
        assert subject.atlas == Path("three")


def test_docstrings_are_taken_apart() -> None:
    question = questions()["members"]
    assert question.summary == "The examples in a cluster, strongest membership first, then by id."
    assert question.about["after"].startswith("leave out this member and all before it")
    assert set(question.errors) == {"UnknownName", "UsageError"} and question.answer.startswith("A row an example")
    assert questions()["class_density"].long and not question.long
    assert questions()["boundaries"].reads({}) and questions()["nearest"].reads({"text": "x"})
    assert not questions()["nearest"].reads({"example": 1})

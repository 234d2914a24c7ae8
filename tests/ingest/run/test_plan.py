"""A plan holds all that determines a run, and refuses what can't be run before any of it is."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atlas.errors import BadInput, EmptyDataset, SequenceTooShort, UnknownName, UsageError
from ingest.run.plan import (
    SHARD_EXAMPLES,
    Choices,
    Plan,
    choose_inputs,
    choose_sites,
    difference,
    make_plan,
    read_inputs,
)
from tests.ingest.runs import SITES, SMALL, TOKENS, small_texts, texts, write_texts
from tests.networks import PixelNetwork, word_network, word_texts


def plan_of(folder: Path, choices: Choices = SMALL, **changed: Any) -> Plan:
    return make_plan(word_network(), texts(folder), replace(choices, **changed))


def test_shards_cover_every_input_once(tmp_path: Path) -> None:
    """Shards cover every input once and count their examples exactly."""
    plan = plan_of(small_texts(tmp_path / "words", 10))
    bounds = [(shard.start, shard.stop, shard.n_examples) for shard in plan.shards]
    assert bounds == [(0, 3, 12), (3, 6, 12), (6, 9, 12), (9, 10, 4)]
    assert plan.n_examples == 40 and [shard.number for shard in plan.shards] == [0, 1, 2, 3]


def test_same_data_anywhere_is_the_same_plan(tmp_path: Path) -> None:
    """The same data and choices give the same plan wherever they lie."""
    data = small_texts(tmp_path / "here" / "words")
    there = shutil.copytree(data, tmp_path / "there" / "words")
    assert plan_of(data).digest == plan_of(there).digest
    assert difference(plan_of(data).document, plan_of(there).document) == []
    assert json.loads(json.dumps(plan_of(data).document)) == plan_of(data).document


def test_skip_bad_alone_changes_no_plan(tmp_path: Path) -> None:
    data = small_texts(tmp_path / "words")
    assert plan_of(data, skip_bad=True).digest == plan_of(data).digest


def test_changed_text_changes_the_plan(tmp_path: Path) -> None:
    """A text that changed changes the plan."""
    data = small_texts(tmp_path / "words")
    before = plan_of(data)
    file = data / "fruit" / "0.txt"
    file.write_text(" ".join(reversed(file.read_text().split(" "))))
    [named] = difference(before.document, plan_of(data).document)
    assert named.startswith("data.fingerprint: ")


def test_trailing_unusable_inputs_are_listed(tmp_path: Path) -> None:
    """Unusable inputs after the last example are still listed."""
    data = small_texts(tmp_path / "words", 3)
    write_texts(data, [("zinc/short.txt", None, "metal1")])
    plan = plan_of(data, skip_bad=True)
    assert [(shard.start, shard.stop, shard.n_examples) for shard in plan.shards] == [(0, 4, 12)]


def test_unusable_inputs_are_named_first(tmp_path: Path) -> None:
    """What is unusable is counted and named before anything is read."""
    data = small_texts(tmp_path / "words", 3)
    write_texts(data, [(f"zinc/{i}.txt", None, "metal1 metal2") for i in range(12)])
    with pytest.raises(SequenceTooShort, match=r"12 of 15 inputs can't be used") as caught:
        plan_of(data)
    message = str(caught.value)
    assert "zinc/0.txt has 2 tokens; sampling needs at least 3" in message and "… and 2 more" in message
    assert "--skip-bad" in message
    (data / "zinc" / "0.txt").write_bytes(b"\xff")
    with pytest.raises(BadInput, match=r"zinc/0.txt is not UTF-8: byte 0 is 0xff"):
        plan_of(data)
    assert plan_of(data, skip_bad=True).n_examples == 12


def test_no_usable_input_is_empty_dataset(tmp_path: Path) -> None:
    """A dataset without one usable input is empty."""
    data = write_texts(tmp_path / "words", [("a/1.txt", None, "metal1"), ("a/2.txt", None, "metal2")])
    with pytest.raises(EmptyDataset, match=r"2 of 2 inputs are unusable(.|\n)*a/1.txt has 1 token"):
        plan_of(data, skip_bad=True)


def test_sites_are_chosen_by_name(tmp_path: Path) -> None:
    """Sites are chosen by name and an unknown one is named."""
    words, pixels = word_network(), PixelNetwork()
    assert [site.name for site in choose_sites(words, Choices())] == list(SITES)
    assert [site.name for site in choose_sites(words, Choices(sites=(SITES[2], SITES[0])))] == [SITES[0], SITES[2]]
    assert [site.name for site in choose_sites(pixels, Choices())] == ["conv1", "conv2"]
    named = choose_sites(pixels, Choices(sites=("conv2",), full=("conv1",)))
    assert [site.name for site in named] == ["conv2", "conv1:full"]
    assert len(choose_sites(pixels, Choices(full=("all",)))) == 4
    for choices in (Choices(sites=("conv9",)), Choices(full=("conv9",))):
        with pytest.raises(UnknownName, match=r"no site 'conv9' in network pixels; it has conv1, conv2"):
            choose_sites(pixels, choices)
    with pytest.raises(UsageError, match=r"--full is for image networks; words has token sites only"):
        choose_sites(words, Choices(full=("all",)))
    with pytest.raises(UsageError, match=r"no site was chosen; network words has blocks.0.mlp"):
        choose_sites(words, Choices(sites=()))


def test_span_needs_codes_of_its_sites(tmp_path: Path) -> None:
    """A span needs the codes of all its sites."""
    data = small_texts(tmp_path / "words")
    with pytest.raises(UsageError, match=r"span blocks.0.mlp→ needs the codes of blocks.2.mlp, blocks.3.mlp; add"):
        plan_of(data, spans=("blocks.0.mlp→",))
    with pytest.raises(UnknownName, match=r"no site 'blocks.9.mlp'"):
        plan_of(data, spans=("blocks.9.mlp->",))
    with pytest.raises(UsageError, match=r"'blocks.0.mlp' is not a span; write AFTER->TO"):
        plan_of(data, spans=("blocks.0.mlp",))


@pytest.mark.parametrize("option", ["batch_size", "shard_examples", "limit"])
@pytest.mark.parametrize("value", [0, -1])
def test_impossible_numbers_are_refused(option: str, value: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"{value}; it must be at least 1"):
        plan_of(small_texts(tmp_path / "words"), **{option: value})


def test_limit_draws_by_seed(tmp_path: Path) -> None:
    """A limit draws by seed and reads in order."""
    data = texts(small_texts(tmp_path / "words", 30))
    drawn = [choose_inputs(data, Choices(limit=10, seed=seed)) for seed in (0, 0, 1)]
    assert (drawn[0] == drawn[1]).all() and (drawn[0] != drawn[2]).any()
    assert all((np.diff(ordinals) > 0).all() and len(ordinals) == 10 for ordinals in drawn)
    assert [item.ordinal for item in read_inputs(data, drawn[0])] == drawn[0].tolist()
    assert (choose_inputs(data, Choices(limit=99)) == np.arange(30)).all()


def test_shards_are_small(tmp_path: Path) -> None:
    """Shards are small in bytes and in examples."""
    data = texts(small_texts(tmp_path / "words", 3))
    plan = make_plan(word_network(), data, Choices(tokens=TOKENS))
    assert plan.document["shard_examples"] == SHARD_EXAMPLES
    long = " ".join(word for _, _, text in word_texts(40) for word in text.split(" "))
    one = texts(write_texts(tmp_path / "long", [("one.txt", None, long)]))
    assert len(make_plan(word_network(), one, SMALL).shards) == 1, "an input is never divided"

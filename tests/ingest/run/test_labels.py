"""Labels of inputs that are there twice, or come later: what is stored, what is told, and what queries then read."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import atlas
import query
from atlas.errors import DamagedAtlas, UnknownName
from atlas.network import ImageView, Reading, Site
from ingest.datasets.sources import open_dataset
from ingest.run.plan import Choices, make_plan
from ingest.run.run import Outcome, ingest
from ingest.run.sampling import ImageSampling
from tests.atlases import png
from tests.ingest.runs import SMALL, rows, small_run, write_texts
from tests.networks import PixelNetwork, word_network, word_texts

LABELLED = "select distinct input_id, label from examples order by all"
BY_DATASET = "select name, input_id, key, label from dataset_inputs join datasets using (dataset_id) order by all"


def lines(path: Path, labels: Sequence[Any], column: str = "label") -> Path:
    """Texts with labels in a column; None: that line has none."""
    texts = [text for _, _, text in word_texts(len(labels))]
    records = [{"text": t} | ({} if v is None else {column: v}) for t, v in zip(texts, labels, strict=True)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def run(path: Path, data: Path, **how: Any) -> Outcome:
    """Ingests data without clusters."""
    dataset = open_dataset(str(data), kind="text", **how)
    return ingest(path, word_network(), dataset, SMALL, cluster=False)


def in_order(path: Path) -> None:
    with atlas.open(path) as a:
        checks = query.verify(a)
    assert checks["ok"].all(), checks[~checks["ok"]]


def test_labels_that_come_later_are_stored(tmp_path: Path) -> None:
    """The same data with a column of labels: they fill in, and what rests on labels follows them."""
    data, place = lines(tmp_path / "a.jsonl", ["x", "y", "x", "y", "x", None], column="source"), tmp_path / "a"
    small_run(place, data)
    assert {label for _, label in rows(place, LABELLED)} == {None}
    ingest(place, word_network(), open_dataset(str(data), kind="text"), SMALL)
    assert {purity for (purity,) in rows(place, "select purity from clusterings")} == {None}
    done = ingest(
        place,
        word_network(),
        open_dataset(str(data), kind="text", label_column="source", name="a"),
        replace(SMALL, skip_bad=True),
    )
    assert done.notes[0] == "5 inputs without a label took the one that is given here"
    assert (done.n_examples, done.n_new) == (20, 0)
    assert [label for _, label in rows(place, LABELLED)] == ["x", "y", "x", "y", "x", None]
    assert [label for *_, label in rows(place, BY_DATASET)] == ["x", "y", "x", "y", "x", None]
    with atlas.open(place) as a:
        for number, target in a.rows("select clustering_id, target from clusterings"):
            stored = a.rows(
                "select label, purity, top_label from clusters where clustering_id = $1 order by 1", [number]
            )
            counted = a.rows(
                "with n as (select cluster, label, count(*) as n from cluster_members where clustering_id = $1 "
                "and cluster >= 0 and label is not null group by all) "
                "select cluster, max(n) / sum(n), arg_min(label, (-n, label)) from n group by cluster order by 1",
                [number],
            )
            assert stored == counted and stored, target
    in_order(place)


def test_a_label_that_is_there_stays(tmp_path: Path) -> None:
    """Another dataset's is stored beside it, the same dataset's is told to be lost; answers say whose they have."""
    place = tmp_path / "a"
    run(place, lines(tmp_path / "a.jsonl", ["x", None]))
    other = run(place, lines(tmp_path / "b.jsonl", ["z", "y"]))
    filled, kept = other.notes
    assert filled.startswith("1 input without a label") and kept.startswith("1 input has another label here")
    assert "b.jsonl:1 has 'z' here, and 'x' is what queries read; table dataset_inputs has both" in kept
    assert rows(place, LABELLED) == [(1, "x"), (2, "y")]
    again = run(place, lines(tmp_path / "a.jsonl", ["w", "y"]), name="a")
    assert (
        "a.jsonl:1 has 'w' here, and 'x' is what queries read; with --data-name it is stored as well"
        in again.notes[0]
    )
    assert rows(place, BY_DATASET) == [
        ("a", 1, "a.jsonl:1", "x"),
        ("a", 2, "a.jsonl:2", "y"),
        ("b", 1, "b.jsonl:1", "z"),
        ("b", 2, "b.jsonl:2", "y"),
    ]
    with atlas.open(place) as a:
        found = query.nearest(a, example=1, site="blocks.0.mlp", label="x", k=1)
        assert "1 input has another label in another dataset" in found.attrs["label_note"]
        assert query.nearest(a, example=1, site="blocks.0.mlp", k=1).attrs["label_note"] is None
        with pytest.raises(UnknownName, match="label 'z'; it has x, y"):
            query.nearest(a, example=1, site="blocks.0.mlp", label="z", k=1)
    in_order(place)


def test_one_content_under_two_labels(tmp_path: Path) -> None:
    """In one run: the first label counts, and plan and end count the same things."""
    (_, _, one), (_, _, two) = word_texts(2)
    made = [("a/one.txt", "a", one), ("b/one.txt", "b", one), ("b/two.txt", "b", two)]
    data = write_texts(tmp_path / "texts", made)
    plan = make_plan(word_network(), open_dataset(str(data), kind="text"), SMALL)
    done = run(tmp_path / "a", data)
    assert (plan.n_examples, plan.n_repeated) == (done.n_examples, 1) == (12, 1) and done.n_new == 8
    assert done.notes[0] == "1 of 3 inputs have the content of another one: each is stored once"
    assert "b/one.txt has 'b' here, and 'a' is what queries read; table dataset_inputs has both" in done.notes[1]
    assert rows(tmp_path / "a", "select label, count(*) from examples group by all order by 1") == [
        ("a", 4),
        ("b", 4),
    ]
    assert [(key, label) for _, _, key, label in rows(tmp_path / "a", BY_DATASET)] == [
        ("a/one.txt", "a"),
        ("b/one.txt", "b"),
        ("b/two.txt", "b"),
    ]


class JudgedPixels(PixelNetwork):
    """The loss is that of the class that the label names."""

    def read(self, batch: Sequence[ImageView], codes: Sequence[Site], activations: Sequence[Site]) -> Reading:
        reading = super().read(batch, codes, activations)
        of_label = [
            np.nan if view.label is None else p if view.label == best else 1 - p
            for view, best, p in zip(batch, reading.prediction, reading.probability, strict=True)
        ]
        return replace(reading, loss=-np.log(np.array(of_label, np.float32)))


def images(path: Path, labels: Sequence[str | None]) -> Path:
    noise = np.random.default_rng(3).integers(0, 256, (len(labels), 8, 8), dtype=np.uint8)
    cells = [png(Image.fromarray(pixels)) for pixels in noise]
    pq.write_table(pa.table({"image": cells, "label": pa.array(labels, pa.string())}), path)
    return path


def test_a_loss_is_of_the_label_that_is_read(tmp_path: Path) -> None:
    """A loss comes with its label, and none is stored that was measured against another."""
    place, network = tmp_path / "a", JudgedPixels()
    first, second = network.classes

    def read(name: str, labels: Sequence[str | None], at: tuple[float, float] = (0.5, 0.5)) -> Outcome:
        data = open_dataset(str(images(tmp_path / f"{name}.parquet", labels)), kind="image")
        return ingest(place, network, data, Choices(view=ImageSampling(*at)), cluster=False)

    losses = 'select label, loss from examples where "row" = $1::float order by input_id'
    alone = tmp_path / "alone"
    ingest(
        alone,
        network,
        open_dataset(str(images(tmp_path / "l.parquet", [first, second])), kind="image"),
        cluster=False,
    )
    expected = rows(alone, "select label, loss from examples order by input_id")
    assert all(loss > 0 for _, loss in expected)
    read("plain", [None, None])
    assert rows(place, losses.replace("$1", "0.5")) == [(None, None), (None, None)]
    read("later", [first, second])
    assert rows(place, losses.replace("$1", "0.5")) == expected
    read("other", [second, second], at=(0.25, 0.25))
    (label, loss), other = rows(place, losses.replace("$1", "0.25"))
    assert (label, loss) == (first, None) and other == expected[1]
    in_order(place)


def test_changed_labels_are_not_filled_in(tmp_path: Path) -> None:
    """A digest of what another program wrote would say that it is as it was written."""
    data, place = lines(tmp_path / "a.jsonl", ["x", "y"], column="source"), tmp_path / "a"
    run(place, data)
    with atlas.open(place, writable=True) as a:
        a.execute("update examples set label = 'z' where example_id = 1")
    with pytest.raises(DamagedAtlas, match=r"label of examples \(run_id 1\) changed since it was written"):
        run(place, data, label_column="source")


TEXTS_OF = [
    ([datetime.date(2026, 1, 2)], "2026-01-02"),
    ([datetime.datetime(2026, 1, 2, 3, 4, 5, 123456)], "2026-01-02 03:04:05.123456"),
    ([datetime.time(3, 4, 5)], "03:04:05"),
    ([datetime.timedelta(days=1, seconds=2)], "1 day, 0:00:02"),
    ([Decimal("1.50")], "1.50"),
    ([Decimal("12345678901234567890.123456789")], "12345678901234567890.123456789"),
    ([7], "7"),
    ([-1], "-1"),
    ([0.1], "0.1"),
    ([True], "True"),
    ([""], ""),
    ([None], None),
    (pa.array([1704164645123456789], pa.timestamp("ns", "UTC")), "2024-01-02 03:04:05.123456789+00:00"),
]
"""What a column of labels holds, and the label that is stored."""


@pytest.mark.parametrize(("column", "text"), TEXTS_OF)
def test_labels_of_any_type_are_texts(column: Any, text: str | None, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a text"], "label": column}), tmp_path / "a.parquet")
    [item] = open_dataset(str(tmp_path / "a.parquet"), kind="text").items()
    assert item.label == text


@pytest.mark.parametrize("column", [[[1]], [{"a": 1}], [b"x"]])
def test_no_label_is_made_of_lists(column: Any, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a text"], "label": column}), tmp_path / "a.parquet")
    [item] = open_dataset(str(tmp_path / "a.parquet"), kind="text").items()
    assert "as its label; expected a text, a number or a time" in item.reason

import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import sys
import tracemalloc
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from atlas.errors import BadInput, EmptyDataset, HubUnavailable, UsageError
from atlas.images import decode_image
from ingest import BadItem, Dataset, Item, open_dataset
from ingest.datasets.images import thumbnail
from tests.forked import children


def encoded(image: Image.Image, form: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def noise(width: int = 40, height: int = 30) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def write(root: Path, files: dict[str, str | bytes]) -> str:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(root)


def only(dataset: Dataset) -> Item | BadItem:
    (item,) = dataset.items()
    return item


def reasons(dataset: Dataset) -> dict[str, str]:
    return {item.key: item.reason for item in dataset.items() if isinstance(item, BadItem)}


def summary(dataset: Dataset) -> list[tuple]:
    items = list(dataset.items())
    assert [item.ordinal for item in items] == list(range(len(dataset)))
    assert all(isinstance(item, Item) for item in items), reasons(dataset)
    return [(item.key, item.label, item.content) for item in items]


# Folders and single files


def test_text_folder_is_read(tmp_path):
    source = write(
        tmp_path / "texts",
        {
            "top.md": "# top",
            "b/deep/er/x.TXT": "x",
            "a/2.txt": "zwei — 2",
            "a/10.rst": "ten\r\n",
            "a/data.csv": "1,2",
            "b/.hidden.txt": "no",
            ".git/config.txt": "no",
            "v1.txt/LICENSE": "no",
        },
    )
    dataset = open_dataset(source, kind="text")
    assert summary(dataset) == [
        ("a/10.rst", "a", "ten\r\n"),
        ("a/2.txt", "a", "zwei — 2"),
        ("b/deep/er/x.TXT", "b", "x"),
        ("top.md", None, "# top"),
    ]
    assert dataset.ignored == {"hidden": 2, ".csv": 1, "no suffix": 1}
    assert [item.content_hash for item in dataset.items(1, 2)] == [hashlib.sha256("zwei — 2".encode()).hexdigest()]
    assert (dataset.name, dataset.kind, dataset.source, len(dataset)) == ("texts", "text", source, 4)


def test_image_folder_is_read(tmp_path):
    files = {"dog/1.JPEG": encoded(noise(), "JPEG"), "cat/1.png": encoded(noise()), "readme.txt": "two animals"}
    dataset = open_dataset(write(tmp_path, files), kind="image")
    assert [(key, label, image.size, image.mode) for key, label, image in summary(dataset)] == [
        ("cat/1.png", "cat", (40, 30), "RGB"),
        ("dog/1.JPEG", "dog", (40, 30), "RGB"),
    ]
    assert dataset.ignored == {".txt": 1}
    hashes = [item.content_hash for item in dataset.items()]
    assert hashes == [hashlib.sha256(files[key]).hexdigest() for key in ("cat/1.png", "dog/1.JPEG")]


def test_a_single_file_is_a_dataset_of_one(tmp_path):
    write(tmp_path, {"a.txt": "alone", "b.gif": encoded(noise(), "GIF")})
    text = open_dataset(str(tmp_path / "a.txt"), kind="text")
    assert (summary(text), text.name) == ([("a.txt", None, "alone")], "a")
    image = open_dataset(str(tmp_path / "b.gif"), kind="image", name="mine")
    assert (len(image), only(image).key, image.name) == (1, "b.gif", "mine")


def test_a_byte_order_mark_is_not_text(tmp_path):
    write(tmp_path, {"a.txt": b"\xef\xbb\xbfhello"})
    assert only(open_dataset(str(tmp_path), kind="text")).content == "hello"


def test_unreadable_texts_are_bad_items(tmp_path):
    """Unreadable texts are reported in their place."""
    source = write(tmp_path, {"1.txt": "fine", "2.txt": b"caf\xe9", "3.txt": "", "4.txt": " \n", "5.txt": "fine too"})
    (tmp_path / "6.txt").write_text("gone")
    dataset = open_dataset(source, kind="text")
    (tmp_path / "6.txt").unlink()
    assert reasons(dataset) == {
        "2.txt": "is not UTF-8: byte 3 is 0xe9",
        "3.txt": "is empty",
        "4.txt": "holds nothing but white space",
        "6.txt": "can't be read: No such file or directory",
    }
    assert [item.ordinal for item in dataset.items()] == [0, 1, 2, 3, 4, 5]


def test_links_are_followed_not_circles(tmp_path):
    """Links are followed but not in circles."""
    write(tmp_path, {"real/a/1.txt": "one", "elsewhere/2.txt": "two"})
    (tmp_path / "real/b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "real/a/loop").symlink_to(tmp_path / "real")
    (tmp_path / "real/nowhere.txt").symlink_to(tmp_path / "gone")
    dataset = open_dataset(str(tmp_path / "real"), kind="text")
    assert [key for key, _, _ in summary(dataset)] == ["a/1.txt", "b/2.txt"]
    assert dataset.ignored == {"circular link": 1, "broken link or special file": 1}


def test_file_name_that_is_not_utf8(tmp_path):
    """A file name that is not utf8 gets a key that can be stored."""
    path = os.fsencode(tmp_path) + b"/caf\xe9.txt"
    try:
        Path(os.fsdecode(path)).write_text("hello")
    except OSError:
        pytest.skip("this file system only takes UTF-8")
    assert summary(open_dataset(str(tmp_path), kind="text")) == [("caf\\xe9.txt", None, "hello")]


def test_a_fingerprint_tells_datasets_apart(tmp_path):
    prints = [
        open_dataset(write(tmp_path / str(i), files), kind="text").fingerprint
        for i, files in enumerate([{"a.txt": "1"}, {"a.txt": "12"}, {"b.txt": "1"}, {"a.txt": "1", "b.txt": "1"}])
    ]
    assert len(set(prints)) == 4
    assert open_dataset(write(tmp_path / "again", {"a.txt": "1"}), kind="text").fingerprint == prints[0]


@pytest.mark.parametrize(
    ("files", "kind", "message"),
    [
        ({"a.png": b"", "b.png": b""}, "text", r"2 \.png\. The 2 images fit another network.*image network such as"),
        ({"a.txt": "x"}, "image", r"1 \.txt\. The 1 text fit.*text network such as gpt2"),
        ({"a.csv": "x", "b.csv": ""}, "text", r"holds 2 \.csv\. Expected files of texts \(\.md \.rst \.text \.txt\)"),
        ({"a.jsonl": "{}"}, "text", "Give a .jsonl file itself"),
        ({}, "text", "no file at all"),
    ],
)
def test_folder_without_inputs_tells_content(tmp_path, files, kind, message):
    """A folder without inputs says what it holds."""
    with pytest.raises(EmptyDataset, match=message):
        open_dataset(write(tmp_path, files), kind=kind)


@pytest.mark.parametrize(("name", "kind"), [("a.txt", "image"), ("a.jsonl", "image"), ("a.png", "text")])
def test_a_single_file_of_the_wrong_kind(tmp_path, name, kind):
    write(tmp_path, {name: "x"})
    with pytest.raises(EmptyDataset, match=r"use an? \w+ network such as"):
        open_dataset(str(tmp_path / name), kind=kind)


def test_files_beside_tables_are_ambiguous(tmp_path):
    """Files and tables in one folder are ambiguous."""
    write(tmp_path, {"README.md": "a clone of a hub dataset", "data/0.parquet": b""})
    with pytest.raises(UsageError, match=r"1 \.md, 1 \.parquet\. Give the folder of one"):
        open_dataset(str(tmp_path), kind="text")


def test_an_unknown_suffix_is_not_guessed(tmp_path):
    write(tmp_path, {"a.csv": "x"})
    with pytest.raises(BadInput, match=r"a\.csv has the suffix \.csv; expected one of"):
        open_dataset(str(tmp_path / "a.csv"), kind="text")


def test_label_column_needs_columns(tmp_path):
    """A label column is refused where there are no columns."""
    write(tmp_path, {"a.txt": "x"})
    for source in (str(tmp_path), str(tmp_path / "a.txt"), "builtin:digits"):
        with pytest.raises(UsageError, match="--label-column topic is for tables"):
            open_dataset(source, kind="text", label_column="topic")


@pytest.mark.parametrize(
    "source",
    ["./texts", "/no/such", "~/no-such-folder", "a/b/c", "texts/", "notes.txt", "x/photo.JPEG", "tests/nope"],
)
def test_paths_are_not_asked_of_the_hub(source, monkeypatch, tmp_path):
    """What looks like a path is not asked of the hub."""
    (tmp_path / "tests").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="no such file or folder"):
        open_dataset(source, kind="text")


@pytest.mark.parametrize("source", ["~nobody-of-this-name/x", "x" * 5000])
def test_a_path_that_cannot_be_looked_at(source):
    with pytest.raises(BadInput, match="can't look at"):
        open_dataset(source, kind="text")


def test_neither_file_nor_folder(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "link.txt").symlink_to(tmp_path / "gone.txt")
    for name in ("pipe.txt", "link.txt"):
        with pytest.raises(BadInput, match="a link that leads nowhere, or neither"):
            open_dataset(str(tmp_path / name), kind="text")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("source", "kind", "message"), [("", "text", "source is empty"), ("builtin:python", "sound", "kind is 'sound'")]
)
def test_impossible_arguments(source, kind, message):
    with pytest.raises(UsageError, match=message):
        open_dataset(source, kind=kind)


# JSON lines


def jsonl(path: Path, *lines: object) -> str:
    path.write_bytes(b"\n".join(x if isinstance(x, bytes) else json.dumps(x).encode() for x in lines))
    return str(path)


def test_json_lines_are_read(tmp_path):
    source = jsonl(
        tmp_path / "r.jsonl",
        {"text": "one", "label": 1},
        b"",
        {"text": "zwei…", "label": None},
        b"  ",
        {"text": "three", "n": 3},
    )
    dataset = open_dataset(source, kind="text")
    assert summary(dataset) == [
        ("r.jsonl:1", "1", "one"),
        ("r.jsonl:3", None, "zwei…"),
        ("r.jsonl:5", None, "three"),
    ]
    assert dataset.name == "r"


def test_json_lines_with_named_columns(tmp_path):
    source = jsonl(tmp_path / "r.json", {"body": "b", "topic": True, "text": "t", "label": "l"})
    assert summary(open_dataset(source, kind="text", text_column="body", label_column="topic")) == [
        ("r.json:1", "True", "b")
    ]


def test_broken_json_lines_name_the_line(tmp_path):
    """Broken json lines are reported by line."""
    source = jsonl(
        tmp_path / "r.jsonl",
        {"text": "fine"},
        b'{"text": "cut o',
        {"body": "x"},
        {"text": 3},
        {"text": None},
        [1],
        {"text": ""},
        b'{"text": "\xe9"}',
        b'{"text": "\\ud800"}',
        {"text": "x", "label": [1]},
        b"[" * 100_000,
        {"text": "fine"},
    )
    found = reasons(open_dataset(source, kind="text"))
    for key in ("r.jsonl:2", "r.jsonl:11"):
        assert found.pop(key).startswith("is no JSON: ")
    assert found == {
        "r.jsonl:3": "has no field 'text'; it has: body",
        "r.jsonl:4": "holds a number where a text is expected",
        "r.jsonl:5": "has no text (the field is null)",
        "r.jsonl:6": "is JSON, but no object with named fields",
        "r.jsonl:7": "is empty",
        "r.jsonl:8": "is not UTF-8: byte 10 of the line is 0xe9",
        "r.jsonl:9": "holds half a surrogate pair at character 0",
        "r.jsonl:10": "has a list as its label; expected a text, a number or a time",
    }


def test_record_without_its_label_is_bad(tmp_path):
    """A record without the label that was asked for is bad."""
    source = jsonl(tmp_path / "r.jsonl", {"text": "a", "topic": "t"}, {"text": "b"})
    assert reasons(open_dataset(source, kind="text", label_column="topic")) == {
        "r.jsonl:2": "has no field 'topic'; it has: text"
    }


def test_missing_json_column_names_others(tmp_path):
    """A missing column of json lines names those there."""
    source = jsonl(tmp_path / "r.jsonl", {"body": "x", "id": 1})
    with pytest.raises(BadInput, match=r"has no column 'text'; it has: body, id. Name one with --text-column"):
        open_dataset(source, kind="text")
    with pytest.raises(BadInput, match=r"has no column 'topic'; it has: body, id. Name one with --label-column"):
        open_dataset(source, kind="text", text_column="body", label_column="topic")


def test_json_that_is_not_lines(tmp_path):
    with pytest.raises(BadInput, match="holds a JSON array; expected one object a line"):
        open_dataset(jsonl(tmp_path / "a.json", [{"text": "x"}]), kind="text")
    with pytest.raises(EmptyDataset, match="holds no record"):
        open_dataset(jsonl(tmp_path / "b.jsonl", b"", b" "), kind="text")


# Parquet


def test_parquet_texts_over_row_groups(tmp_path):
    """Parquet texts over files and row groups."""
    for part, rows in (("b/1", 7), ("a/0", 5)):
        (tmp_path / part).parent.mkdir()
        texts = [f"{part} {row}" for row in range(rows)]
        pq.write_table(
            pa.table({"text": texts, "label": list(range(rows))}), tmp_path / f"{part}.parquet", row_group_size=3
        )
    dataset = open_dataset(str(tmp_path), kind="text")
    assert summary(dataset) == [
        (f"{part}.parquet:{row}", str(row), f"{part} {row}")
        for part, rows in (("a/0", 5), ("b/1", 7))
        for row in range(rows)
    ]
    single = open_dataset(str(tmp_path / "b/1.parquet"), kind="text", label_column=None)
    assert summary(single)[3] == ("1.parquet:3", "3", "b/1 3")


def test_parquet_values_that_are_no_text(tmp_path):
    offsets, valid = np.array([0, 2, 3, 3, 3], np.int32), bytes([0b0111])
    invalid = pa.StringArray.from_buffers(4, pa.py_buffer(offsets), pa.py_buffer(b"ok\xe9"), pa.py_buffer(valid))
    pq.write_table(pa.table({"text": invalid}), tmp_path / "t.parquet")
    assert reasons(open_dataset(str(tmp_path / "t.parquet"), kind="text")) == {
        "t.parquet:1": "is not UTF-8: byte 0 is 0xe9",
        "t.parquet:2": "is empty",
        "t.parquet:3": "has no text (the field is null)",
    }


def test_parquet_labels_nan_and_classes(tmp_path):
    """Parquet labels that are nan or class numbers."""
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    classes = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    table = pa.table({"text": ["a", "b", "c"], "label": [1, -1, 0], "score": [0.5, float("nan"), None]})
    source = str(tmp_path / "t.parquet")
    pq.write_table(table.replace_schema_metadata(classes), source)
    assert [label for _, label, _ in summary(open_dataset(source, kind="text"))] == ["dog", None, "cat"]
    scores = open_dataset(source, kind="text", label_column="score")
    assert [label for _, label, _ in summary(scores)] == ["0.5", None, None]


def test_parquet_images_are_read(tmp_path):
    data = encoded(noise())
    cells = pa.array([{"bytes": data, "path": "1.png"}, {"bytes": data[:500], "path": None}, None])
    pq.write_table(pa.table({"image": cells, "label": ["x", "y", "z"]}), tmp_path / "i.parquet")
    dataset = open_dataset(str(tmp_path / "i.parquet"), kind="image")
    first = next(dataset.items())
    assert (first.label, first.content.size, first.content_hash) == ("x", (40, 30), hashlib.sha256(data).hexdigest())
    assert [item.key for item in dataset.items(1) if isinstance(item, BadItem)] == ["i.parquet:1", "i.parquet:2"]


def test_parquet_columns_that_do_not_fit(tmp_path):
    source = str(tmp_path / "t.parquet")
    pq.write_table(pa.table({"body": ["x"], "n": [1]}), source)
    with pytest.raises(BadInput, match="no column 'text'; it has: body, n"):
        open_dataset(source, kind="text")
    with pytest.raises(BadInput, match="column 'n' holds a number a row; expected texts"):
        open_dataset(source, kind="text", text_column="n")
    with pytest.raises(EmptyDataset, match="texts in 'body': use a text network"):
        open_dataset(source, kind="image", text_column="body")
    with pytest.raises(BadInput, match="0 columns of images"):
        open_dataset(source, kind="image")
    pq.write_table(pa.table({"left": [b"x"], "right": [b"y"]}), source)
    with pytest.raises(EmptyDataset, match="images in column 'left': use an image network"):
        open_dataset(source, kind="text")
    with pytest.raises(BadInput, match=r"2 columns of images \(left, right\)"):
        open_dataset(source, kind="image")


def test_parquet_that_is_none_or_damaged(tmp_path):
    source = write(tmp_path, {"t.parquet": "not parquet"}) + "/t.parquet"
    with pytest.raises(BadInput, match="can't be read as Parquet"):
        open_dataset(source, kind="text")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), source)
    with pytest.raises(EmptyDataset, match="holds no row"):
        open_dataset(source, kind="text")
    pq.write_table(pa.table({"text": [f"text number {i}" for i in range(9999)]}), source, write_page_checksum=True)
    data = bytearray(Path(source).read_bytes())
    data[5000] ^= 0xFF
    Path(source).write_bytes(data)
    dataset = open_dataset(source, kind="text")
    with pytest.raises(BadInput, match="is damaged from row 0 on"):
        list(dataset.items())


def test_columns_are_in_the_fingerprint(tmp_path):
    """The choice of columns is part of the fingerprint."""
    record = {"text": "a", "body": "b", "topic": "c"}
    pq.write_table(pa.table({name: [value] for name, value in record.items()}), tmp_path / "t.parquet")
    for source in (jsonl(tmp_path / "t.jsonl", record), str(tmp_path / "t.parquet")):
        choices = [{}, {"text_column": "body"}, {"label_column": "topic"}]
        assert len({open_dataset(source, kind="text", **choice).fingerprint for choice in choices}) == 3


# Builtin datasets


def test_builtin_images_are_read():
    every, heldout = (open_dataset(f"builtin:digits{part}", kind="image") for part in ("", "-heldout"))
    assert (len(every), len(heldout), heldout.name) == (1797, 599, "digits-heldout")
    assert [item.content_hash for item in every.items(1198)] == [item.content_hash for item in heldout.items()]
    first = next(every.items())
    assert first.content_hash == hashlib.sha256(b"L 8x8\n" + first.content.tobytes()).hexdigest()


def test_builtin_texts_are_read():
    dataset = open_dataset("builtin:python-heldout", kind="text")
    labels = {label for _, label, _ in summary(dataset)}
    assert labels <= {"topic", "source", "encoding", "docstring"}
    assert len({item.key for item in dataset.items()}) == len(dataset) > 10


def test_builtin_of_the_wrong_kind_or_name():
    with pytest.raises(EmptyDataset, match="holds images; use an image network"):
        open_dataset("builtin:digits", kind="text")
    with pytest.raises(UsageError, match=r"there is no builtin:cats; there are: builtin:python, "):
        open_dataset("builtin:cats", kind="image")


# Hugging Face


@pytest.fixture(scope="module")
def library():
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    return datasets


def test_saved_texts_are_read(library, tmp_path):
    features = library.Features(
        {
            "text": library.Value("string"),
            "n": library.Value("int64"),
            "label": library.ClassLabel(names=["no", "yes"]),
        }
    )
    rows = {"text": ["a", "b", "c"], "n": [1, 2, 3], "label": [1, -1, 0]}
    library.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "one")
    dataset = open_dataset(str(tmp_path / "one"), kind="text")
    assert summary(dataset) == [("row:0", "yes", "a"), ("row:1", None, "b"), ("row:2", "no", "c")]
    assert dataset.name == "one"
    assert dataset.fingerprint == open_dataset(str(tmp_path / "one"), kind="text").fingerprint
    numbers = open_dataset(str(tmp_path / "one"), kind="text", label_column="n")
    assert [label for _, label, _ in summary(numbers)] == ["1", "2", "3"]
    with pytest.raises(BadInput, match="no column 'body'; it has: text, n, label"):
        open_dataset(str(tmp_path / "one"), kind="text", text_column="body")
    with pytest.raises(BadInput, match="column 'n' holds a number a row"):
        open_dataset(str(tmp_path / "one"), kind="text", text_column="n")


def test_saved_splits_are_read(library, tmp_path):
    splits = {name: library.Dataset.from_dict({"text": [name]}) for name in ("train", "test")}
    library.DatasetDict(splits).save_to_disk(tmp_path)
    assert summary(open_dataset(str(tmp_path), kind="text", split="test")) == [("test:0", None, "test")]
    with pytest.raises(BadInput, match="no split 'dev'; it has: train, test"):
        open_dataset(str(tmp_path), kind="text", split="dev")


def test_saved_images_are_read(library, tmp_path):
    data = encoded(noise())
    (tmp_path / "outside.png").write_bytes(data)
    cells = [
        {"bytes": data, "path": None},
        {"bytes": data[:300], "path": None},
        None,
        {"bytes": None, "path": str(tmp_path / "outside.png")},
    ]
    features = library.Features({"picture": library.Image()})
    library.Dataset.from_dict({"picture": cells}, features=features).save_to_disk(tmp_path / "saved")
    dataset = open_dataset(str(tmp_path / "saved"), kind="image")
    good = {item.key: item.content_hash for item in dataset.items() if isinstance(item, Item)}
    assert good == dict.fromkeys(["row:0", "row:3"], hashlib.sha256(data).hexdigest())
    with pytest.raises(EmptyDataset, match="images in column 'picture': use an image network"):
        open_dataset(str(tmp_path / "saved"), kind="text")


def test_the_hub_out_of_reach(library, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(library.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubUnavailable, match=r"'nobody/nothing-at-all' is no file or folder here.*save_to_disk"):
        open_dataset("nobody/nothing-at-all", kind="text")
    with pytest.raises(HubUnavailable, match=r"load_dataset\('nobody/nothing', 'small', split='test'\)"):
        open_dataset("nobody/nothing:small", kind="text", split="test")


def test_silent_hub_is_asked_once(library, monkeypatch, tmp_path):
    """A hub that does not answer is asked once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(library.config, "HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port: nobody listens
    with pytest.raises(HubUnavailable, match="nobody/nothing-at-all"):
        open_dataset("nobody/nothing-at-all", kind="text")
    assert library.config.HF_HUB_OFFLINE is False or os.environ.get("HF_HUB_OFFLINE")


def test_without_the_optional_library(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"'imdb' needs.*pip install 'polytope-atlas\[hub\]'"):
        open_dataset("imdb", kind="text")


# Any range, in bounded memory


@pytest.fixture(params=["folder", "jsonl", "parquet", "digits", "saved"])
def any_dataset(request, tmp_path) -> Dataset:
    texts = [f"text {i}" if i % 7 else "" for i in range(600)]
    if request.param == "digits":
        return open_dataset("builtin:digits-heldout", kind="image")
    if request.param == "folder":
        write(tmp_path / "x", {f"{i % 5}/{i}.txt": text for i, text in enumerate(texts)})
    elif request.param == "jsonl":
        jsonl(tmp_path / "x", *({"text": text} for text in texts))
        (tmp_path / "x").rename(tmp_path / "x.jsonl")
        return open_dataset(str(tmp_path / "x.jsonl"), kind="text")
    elif request.param == "parquet":
        (tmp_path / "x").mkdir()
        for i in range(2):
            pq.write_table(
                pa.table({"text": texts[300 * i : 300 * i + 300]}), tmp_path / f"x/{i}.parquet", row_group_size=290
            )
    else:
        request.getfixturevalue("library").Dataset.from_dict({"text": texts}).save_to_disk(tmp_path / "x")
    return open_dataset(str(tmp_path / "x"), kind="text")


def test_any_range_is_part_of_the_whole(any_dataset):
    """Any range equals its part of the whole."""
    whole = list(any_dataset.items())
    n = len(any_dataset)
    assert [item.ordinal for item in whole] == list(range(n))
    for start, stop in [
        (0, 0),
        (0, 1),
        (n - 1, n),
        (288, 305),
        (255, 258),
        (250, None),
        (n, None),
        (5, 90),
        (90, 91),
    ]:
        assert list(any_dataset.items(start, stop)) == whole[start:stop], (start, stop)
    one, other = any_dataset.items(100, 200), any_dataset.items(20, 120)
    assert [item for pair in zip(one, other, strict=True) for item in pair] == [
        item for pair in zip(whole[100:200], whole[20:120], strict=True) for item in pair
    ]


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (3, 2), (0, 601)])
def test_range_outside_dataset_is_refused(any_dataset, start, stop):
    """A range outside the dataset is refused."""
    with pytest.raises(UsageError, match=f"items {start} to {stop} were asked for; there are {len(any_dataset)}"):
        any_dataset.items(start, stop)


def test_memory_does_not_grow_with_content(tmp_path):
    """Memory does not grow with the content. Measured in a process of its own: threads that pages of other tests
    left behind would count as well, and took 16 MB once."""
    size = 100_000
    write(tmp_path / "files", {f"{i:04}.txt": f"{i:04}" + "x" * size for i in range(400)})
    jsonl(tmp_path / "lines.jsonl", *({"text": f"{i:04}" + "x" * size} for i in range(400)))
    ours, theirs = multiprocessing.Pipe(duplex=False)
    sources = tmp_path / "files", tmp_path / "lines.jsonl"
    process = children().Process(target=_measure, args=(theirs, sources))
    process.start()
    theirs.close()
    measured = ours.recv()
    process.join()
    for length, peak in measured:
        assert length == 400 * (size + 4)
        assert peak < 4_000_000  # of 40 MB


def _measure(pipe: Connection, sources: tuple[Path, ...]) -> None:
    """Of each source, how long its texts are, and the peak of memory while they are read one after the other."""
    measured = []
    for source in sources:
        tracemalloc.start()
        length = sum(len(item.content) for item in open_dataset(str(source), kind="text").items())
        measured.append((length, tracemalloc.get_traced_memory()[1]))
        tracemalloc.stop()
    pipe.send(measured)


# Images


def bad_image(tmp_path: Path, data: bytes) -> str:
    (tmp_path / "x.jpg").write_bytes(data)
    item = only(open_dataset(str(tmp_path / "x.jpg"), kind="image"))
    assert isinstance(item, BadItem)
    return item.reason


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_formats_are_read_whole_or_not(form, tmp_path):
    """Every format is read whole or not at all."""
    data = encoded(noise(), form)
    (tmp_path / "x.jpg").write_bytes(data)
    assert only(open_dataset(str(tmp_path / "x.jpg"), kind="image")).content.size == (40, 30)
    for kept in (0.1, 0.5, 0.95):
        assert bad_image(tmp_path, data[: int(kept * len(data))]).startswith(("does not decode", "is no JPEG"))


def test_what_is_no_image(tmp_path):
    assert bad_image(tmp_path, b"") == "is empty"
    assert bad_image(tmp_path, b"<html>not found</html>").startswith("is no JPEG, PNG, WebP")
    assert bad_image(tmp_path, encoded(noise(), "EPS")).startswith("is no JPEG")


@pytest.mark.parametrize("limit", [1199, 400])  # Pillow warns above its limit, and refuses above twice that
def test_decompression_bombs_are_refused(tmp_path, monkeypatch, limit, recwarn):
    data = encoded(noise())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert "pixels" in bad_image(tmp_path, data)
    assert not recwarn


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"]), st.data())
def test_damaged_bytes_decode_or_are_bad(form, data):
    """Damaged bytes decode or are bad input."""
    damaged = bytearray(encoded(noise(16, 16), form))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BadInput):
        decode_image(bytes(damaged))


def test_images_are_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    assert decode_image(encoded(noise(40, 30), "JPEG", exif=exif)).size == (30, 40)


def test_jpeg_of_several_pictures_is_read():
    """A jpeg with more pictures behind it is read."""
    two = encoded(noise(), "MPO", save_all=True, append_images=[noise(20, 20)])
    assert decode_image(two).size == (40, 30)


def test_modes_become_l_or_rgb():
    clear_red = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    keyed = {"transparency": (9, 9, 9)}
    grey16 = Image.fromarray(np.array([[0, 257, 65535]], np.uint16))
    for image, options, expected in [
        (clear_red, {}, (255, 255, 255)),
        (Image.new("RGB", (2, 2), (9, 9, 9)), keyed, (255, 255, 255)),
        (Image.new("RGB", (2, 2), (9, 9, 8)), keyed, (9, 9, 8)),
        (Image.new("P", (2, 2), 0), {}, (0, 0, 0)),
        (Image.new("1", (2, 2), 1), {}, 255),
    ]:
        assert decode_image(encoded(image, **options)).getpixel((0, 0)) == expected
    assert np.asarray(decode_image(encoded(grey16))).tolist() == [[0, 1, 255]]
    with pytest.raises(BadInput, match="32-bit pixels"):
        decode_image(encoded(Image.new("F", (2, 2)), "TIFF"))


def test_thumbnails_are_small():
    small = Image.open(io.BytesIO(thumbnail(noise(64, 10))))
    assert (small.format, small.size) == ("PNG", (64, 10))
    assert np.array_equal(np.asarray(small), np.asarray(noise(64, 10)))
    for size, expected in [((65, 65), (65, 65)), ((500, 250), (128, 64)), ((3000, 2), (128, 1))]:
        large = Image.open(io.BytesIO(thumbnail(noise(*size))))
        assert (large.format, large.size) == ("JPEG", expected)
    with pytest.raises(UsageError, match="side is 0"):
        thumbnail(noise(), 0)


def test_thumbnail_drops_the_profile():
    """A thumbnail leaves the image alone and drops its profile."""
    image = noise(300, 200)
    image.info["icc_profile"] = b"p" * 100_000
    for side in (64, 512):
        assert b"pppp" not in thumbnail(image, side)
    assert (image.size, len(image.info["icc_profile"])) == ((300, 200), 100_000)

"""The built-in data: labels, honest and stable splits, contents."""

from collections import Counter

import numpy as np
import pytest

from ingest.datasets.builtin import HELDOUT_DIGITS, BuiltinText, digit_images, python_texts


@pytest.fixture(scope="module")
def texts() -> list[BuiltinText]:
    """All texts; reading them once is enough, a split only chooses among them."""
    return list(python_texts("all"))


def module_of(text: BuiltinText) -> str:
    return text.key.split("/", 2)[2]


@pytest.mark.slow
def test_every_kind_is_in_both_parts(texts):
    assert all(text.key.split("/")[1] == text.label and text.text.strip() for text in texts)
    for split in ("train", "heldout"):
        of_split = {text.label for text in texts if text.key.startswith(f"{split}/")}
        assert of_split == {"topic", "source", "encoding", "docstring"}


def test_parts_are_disjoint_and_all(texts):
    """The parts are disjoint and together all."""
    keys = [text.key for text in texts]
    train = [key for key in keys if key.startswith("train/")]
    heldout = [key for key in keys if key.startswith("heldout/")]
    assert len(set(keys)) == len(keys) == len(train) + len(heldout)
    assert 0.05 < len(heldout) / len(keys) < 0.2  # one in eight
    assert [text.key for text in python_texts("heldout")] == heldout  # in the same order, too


def test_source_and_docstrings_share_part(texts):
    """Source and docstrings of a module share a part."""
    part_of = {module_of(text): text.key.split("/")[0] for text in texts if text.label == "source"}
    docstrings = [text for text in texts if text.label == "docstring" and module_of(text) in part_of]
    assert len(docstrings) > 100
    assert all(text.key.split("/")[0] == part_of[module_of(text)] for text in docstrings)


def test_heldout_topic_is_not_in_training(texts):
    """No heldout topic is quoted in training."""
    training = " ".join(" ".join(text.text.split()) for text in texts if text.key.startswith("train/topic/"))
    for topic in (text for text in texts if text.key.startswith("heldout/topic/")):
        paragraphs = (" ".join(block.split()) for block in topic.text.split("\n\n"))
        assert not [block for block in paragraphs if len(block) >= 120 and block in training]


def test_known_texts_are_where_they_belong(texts):
    by_key = {text.key: text for text in texts}
    # Modules that every supported Python has: should the rule of the split change, the shipped network's held-out
    # texts would no longer be held out.
    assert "heldout/source/subprocess.py" in by_key
    assert "train/source/json/decoder.py" in by_key
    assert "heldout/topic/objects" in by_key
    assert "heldout/encoding/encodings/cp1256.py" in by_key
    docstring = by_key["heldout/docstring/subprocess.py"].text
    assert docstring.startswith("Subprocesses with accessible I/O streams") and "def " not in docstring


def test_what_is_left_out(texts):
    modules = {module_of(text) for text in texts if text.label != "topic"}
    folders = {folder for module in modules for folder in module.split("/")[:-1]}
    assert not folders & {"test", "tests", "idlelib", "lib2to3", "pydoc_data", "site-packages", "__pycache__"}
    assert not [module for module in modules if module.startswith("_sysconfigdata")]


def test_prefix_is_a_fair_sample_of_kinds(texts):
    """A prefix is a fair sample of the kinds."""
    every, first = Counter(t.label for t in texts), Counter(t.label for t in texts[:200])
    for label, n in every.items():
        assert first[label] / 200 == pytest.approx(n / len(texts), abs=0.1)


def test_digits_are_split_in_file_order():
    train, heldout = list(digit_images("train")), list(digit_images("heldout"))
    assert len(train) == 1797 - HELDOUT_DIGITS and len(heldout) == HELDOUT_DIGITS
    assert [image.key for image in digit_images("all")] == [image.key for image in train + heldout]
    assert train[0].key == "train/0000.png" and heldout[-1].key == "heldout/1796.png"
    assert {image.label for image in heldout} == set("0123456789")


def test_digits_are_8_bit_grey_images():
    """Digits are 8 bit grey images over the whole range."""
    image = next(digit_images("train")).image
    assert (image.mode, image.size) == ("L", (8, 8))
    # The first row of the file's first digit, a zero: 0 0 5 13 9 1 0 0 of 16.
    assert np.asarray(image)[0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("read", [python_texts, digit_images])
def test_an_unknown_split_says_what_is_known(read):
    with pytest.raises(ValueError, match="split is 'test'; expected one of 'all', 'train', 'heldout'"):
        next(read("test"))

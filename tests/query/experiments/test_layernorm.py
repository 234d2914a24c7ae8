"""Scaling before a norm and after it: against numbers worked out on paper, and against the demo's GPT-2."""

import numpy as np
import pytest

import atlas
from atlas.errors import UnknownName, UsageError
from query.experiments.layernorm import ALL, BEFORE, HIDDEN
from query.experiments.registry import run
from tests.atlases import add_texts
from tests.networks import shipped
from tests.query.experiments.tailed import NormedReader, plane_reader


class ShortSighted(NormedReader):
    """With an ε that is no smaller than what is normalised."""

    eps = 1.0


def reading(words, path):
    """An atlas of these points, and what asks it; a network with another ε reads the same codes."""
    add_texts(path, plane_reader("normed"), [(word, "x", word) for word in words], per_sequence=1)
    with atlas.open(path) as a:
        yield lambda kind, **options: run(a, "layernorm", reader=plane_reader("normed", kind=kind), **options)


@pytest.fixture(scope="module")
def ask_one(tmp_path_factory):
    yield from reading(["1:1"], tmp_path_factory.mktemp("one") / "n.atlas")


@pytest.fixture(scope="module")
def ask_six(tmp_path_factory):
    yield from reading(["1:1", "2:5", "6:1", "3:3", "0:5", "4:2"], tmp_path_factory.mktemp("six") / "n.atlas")


def test_no_epsilon_means_scale_free(ask_six):
    """A norm without epsilon flips nothing."""
    result = ask_six(NormedReader, alphas=[0.25, 0.5, 2, 64])
    before = result.table[result.table["scaled"] == BEFORE]
    assert before["share"].eq(0).all() and before["any"].eq(0).all() and before["change"].max() < 1e-6
    assert before["n"].eq(6).all()


def test_a_norms_change_is_a_mean(ask_six):
    """How far the norm moves is a mean over examples with its interval."""
    result = ask_six(ShortSighted, alphas=[0.5, 2])
    examples, table = (frame[frame["scaled"] == BEFORE] for frame in (result.tables["examples"], result.table))
    for row in table[table["site"] != "all"].to_dict("records"):
        each = examples[(examples["alpha"] == row["alpha"]) & (examples["site"] == row["site"])]["change"]
        assert row["change"] == pytest.approx(each.mean()) and each.min() <= row["change_low"] < row["change"]
        assert row["change"] < row["change_high"] <= each.max()
    assert (
        result.table[result.table["scaled"] != BEFORE][["change", "change_low", "change_high"]].isna().all(axis=None)
    )


def test_a_large_epsilon_as_on_paper(ask_one):
    """r = (1, 1), ε = 1: N(α·r)ₓ = α/√(α² + 1) is 0.707 at 1 and 0.995 at 10; the gate at 0.9 turns on. The other,
    N(r)ᵧ > N(r)ₓ, stays off."""
    result = ask_one(ShortSighted, alphas=[0.5, 10], sites=["hidden"])
    rows = result.table.query("scaled == @BEFORE and site == 'hidden'").set_index("alpha")
    # The reader's sites have three gates, of which its norm feeds two.
    assert rows["most"].tolist() == [0, 1] and rows["any"].tolist() == [0, 1]
    assert rows.loc[10, "change"] == pytest.approx((10 / np.sqrt(101)) / np.sqrt(0.5) - 1, rel=1e-5)


def test_scaled_hidden_vector_as_on_paper(ask_one):
    """From (1, 1) to (2, 2): x + y > 2 turns on, and with it (x + y − 2)⁺ > 1; to (1.5, 1.5) the first alone."""
    result = ask_one(NormedReader, alphas=[0.5, 1, 1.5, 2], sites=["embed"])
    rows = result.table.query("scaled == @HIDDEN and site == 'embed'")
    assert rows["most"].tolist() == [0, 0, 1, 2] and rows["n_gates"].eq(5).all()
    np.testing.assert_allclose(rows["share"], [0, 0, 0.2, 0.4])
    assert result.tables["summary"].set_index("scaled").loc[HIDDEN, "share"] == pytest.approx(0.2)


def test_the_mean_counts_examples_once(ask_six):
    """The mean over sites counts each example once."""
    result = ask_six(NormedReader, alphas=[3])
    examples = result.tables["examples"]
    for kind in (BEFORE, HIDDEN):
        group = examples[examples["scaled"] == kind]
        [row] = result.table.query("scaled == @kind and site == @ALL").to_dict("records")
        assert row["n"] == 6 and row["share"] == pytest.approx(group.groupby("example")["share"].mean().mean())


def test_layernorm_settles_it_for_gpt2(tmp_path):
    """Layernorm settles it for a real gpt2."""
    network = shipped("demo:gpt2")
    text = (
        "import os\n\n\ndef walk(path):\n    for name in os.listdir(path):\n        yield os.path.join(path, name)\n"
    )
    add_texts(tmp_path / "gpt2.atlas", network, [("a.py", "code", text)], per_sequence=8)
    with atlas.open(tmp_path / "gpt2.atlas") as a:
        result = run(a, "layernorm", reader=network, examples=4, alphas=[0.5, 2.0])
    share = result.tables["summary"].set_index("scaled")["share"]
    assert share[BEFORE] < 0.002 and share[HIDDEN] > 0.01
    assert set(result.table["site"]) == {ALL, *(site.name for site in network.sites)}
    assert any("not piecewise linear" in note for note in result.notes)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"alphas": [0.5, 0.5]}, UsageError, "increasing, all above 0"),
        ({"alphas": []}, UsageError, "at least 1"),
        ({"alphas": [0.5, float("nan"), 2]}, UsageError, "finite"),
        ({"seed": -1}, UsageError, "seed is -1"),
        ({"alphas": [0, 1]}, UsageError, "above 0"),
        ({"alphas": [1]}, UsageError, "scales nothing"),
        ({"examples": 0}, UsageError, "examples is 0"),
        ({"sites": "embed"}, UsageError, "list of names"),
        ({"sites": []}, UsageError, "list of names"),
        (
            {"sites": ["blocks.9.mlp"]},
            UnknownName,
            "no site 'blocks.9.mlp' in network normed; it has embed, hidden, out",
        ),
    ],
)
def test_layernorm_refuses_the_impossible(ask_one, options, error, message):
    """Layernorm refuses impossible questions."""
    with pytest.raises(error, match=message):
        ask_one(NormedReader, **options)


def test_networks_without_norm_are_told(digits_path, plane):
    """Networks without a norm are told why."""
    with pytest.raises(UsageError, match="tailed can't be scaled before LayerNorm: it shows no residual stream"):
        run(plane[0], "layernorm", reader=plane[2])
    with (
        atlas.open(digits_path) as a,
        pytest.raises(UsageError, match="Batch norm in evaluation mode is a fixed affine map"),
    ):
        run(a, "layernorm", reader=shipped("demo:inceptionv1"))

"""What holds for all experiments that look inside a network: layernorm, soft, intervene, adversarial."""

import numpy as np
import pandas as pd
import pytest

import atlas
from ingest.derived.clusters import cluster
from query.experiments.archive import load, save
from query.experiments.registry import run
from tests.atlases import add_texts
from tests.networks import shipped

LINES = (
    "import os, sys",
    "def walk(path):",
    "The quick brown fox jumps",
    "return sorted(names)",
    "class A(B): pass",
    "x = [i for i in range(10)]",
    "It was the best of times",
    "raise ValueError(message)",
    "a, b = b, a + b",
    "There is no place like home",
    "assert x is not None",
    "with open(path) as file:",
)

QUESTIONS = {
    "layernorm": {"examples": 2, "alphas": [0.5, 2.0]},
    "soft": {"examples": 8},
    "intervene": {"site": "blocks.2.mlp", "cluster": 1, "examples": 2, "n_random": 2, "gates": 6},
    "adversarial": {"span": "blocks.2.mlp->", "examples": 2, "n_random": 1, "epsilons": [0.1, 0.5], "steps": 2},
}


@pytest.fixture(scope="module")
def network():
    return shipped("demo:gpt2")


@pytest.fixture(scope="module")
def path(tmp_path_factory, network):
    """Tokens of code and of prose, clustered by hand by what they are from."""
    found = tmp_path_factory.mktemp("inside") / "gpt2.atlas"
    add_texts(found, network, [(str(i), "code", line) for i, line in enumerate(LINES)], per_sequence=3)
    number = cluster(found, site="blocks.2.mlp", min_cluster_size=3)
    with atlas.open(found, writable=True) as a:
        a.execute(
            "update cluster_labels set label = cast(e.input_id in (3, 7, 10) as integer) from examples e "
            "where e.example_id = cluster_labels.example_id and clustering_id = $1",
            [number],
        )
    return found


@pytest.fixture(scope="module")
def told():
    """What each experiment has told of its progress, run by run: (done, total)."""
    return {name: [] for name in QUESTIONS}


@pytest.fixture(scope="module")
def results(path, network, told):
    with atlas.open(path) as a:
        return {
            name: [
                run(a, name, reader=network, seed=seed, progress=lambda *now, to=told[name]: to.append(now), **asked)
                for seed in (0, 0, 1)
            ]
            for name, asked in QUESTIONS.items()
        }


@pytest.fixture(scope="module")
def figures(results):
    """Of the first result of each, drawn once to be looked at."""
    return {name: first.figure() for name, (first, *_) in results.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", QUESTIONS)
def test_the_seed_decides_the_numbers(results, name):
    """The same seed gives the same numbers and another seed others."""
    first, again, other = results[name]
    assert first.parameters == again.parameters and first.notes == again.notes
    for table in first.tables:
        pd.testing.assert_frame_equal(first.tables[table], again.tables[table])
    assert any(not first.tables[table].equals(other.tables[table]) for table in first.tables)


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_stored_result_draws_the_same(results, figures, path, name):
    """A stored result draws the same figure."""
    result = results[name][0]
    with atlas.open(path, writable=True) as a:
        again = load(a, save(a, result))
    assert again.figure().to_json() == figures[name].to_json()
    assert again.notes == result.notes and again.parameters == result.parameters


@pytest.mark.parametrize("name", QUESTIONS)
def test_figures_say_n_and_name_their_axes(figures, name):
    figure = figures[name]
    axes = [value for key, value in figure.to_dict()["layout"].items() if key.startswith(("xaxis", "yaxis"))]
    assert axes and all(axis.get("title", {}).get("text") or axis.get("matches") for axis in axes)
    assert "n = " in figure.to_json()


@pytest.mark.parametrize("name", QUESTIONS)
def test_means_lie_in_their_intervals(results, name):
    """Means lie in their intervals and say their n."""
    table = results[name][0].table
    assert (table["n"] > 0).all()
    for column in (c.removesuffix("_low") for c in table.columns if c.endswith("_low")):
        known = table[[f"{column}_low", column, f"{column}_high"]].dropna().to_numpy(np.float64)
        assert (np.diff(known, axis=1) >= -1e-12).all(), column


@pytest.mark.parametrize("name", QUESTIONS)
def test_what_is_not_exact_is_said(results, name):
    notes = " ".join(results[name][0].notes)
    assert "not exact regions" in notes or "no exact region" in notes


@pytest.mark.parametrize("name", QUESTIONS)
def test_progress_reaches_its_end(results, told, name):
    done, total = told[name][-1]
    assert len(results[name]) == 3 and done == total
    assert all(0 <= done <= total for done, total in told[name])

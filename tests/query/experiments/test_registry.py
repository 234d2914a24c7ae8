"""Every experiment is documented, has options with help, and says what is wrong with a question."""

import inspect
import re
from pathlib import Path

import pytest

from atlas.errors import UnknownName, UsageError
from query.experiments import registry
from query.experiments.registry import EXPERIMENTS, Experiment
from query.experiments.result import Result

DEFINITIONS = (Path(__file__).parents[3] / "docs" / "SCIENCE.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=lambda experiment: experiment.name)
def test_every_experiment_has_a_function_a_figure_a_seed_and_a_definition(experiment: Experiment):
    assert inspect.signature(experiment.function).return_annotation in (Result, "Result")
    assert callable(getattr(inspect.getmodule(experiment.function), f"draw_{experiment.name}"))
    assert "seed" in experiment.options
    assert all(
        p.kind is p.KEYWORD_ONLY
        for n, p in inspect.signature(experiment.function).parameters.items()
        if n not in ("atlas", "reader")
    )
    assert experiment.section is None or re.search(rf"^## {experiment.section} ", DEFINITIONS, re.MULTILINE)
    assert experiment.summary.endswith(".")


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=lambda experiment: experiment.name)
def test_the_docstring_says_what_every_option_means(experiment: Experiment):
    bare = [
        name for name in experiment.options if experiment.parameter_help(name) == name.replace("_", " ").capitalize()
    ]
    assert bare == []


def test_an_unknown_experiment_is_answered_with_those_there_are():
    with pytest.raises(UnknownName, match="no experiment 'entropy'; there are monosemanticity, neuron"):
        registry.find("entropy")


def test_options_that_an_experiment_does_not_have_are_refused(a):
    with pytest.raises(UsageError, match="experiment occupancy has no option pairs; it has network, targets, seed"):
        registry.run(a, "occupancy", pairs=3)


def test_an_experiment_on_the_atlas_alone_takes_no_network(a, words):
    with pytest.raises(UsageError, match="reads the atlas alone"):
        registry.run(a, "occupancy", reader=words)
    with pytest.raises(UsageError, match="takes no controls"):
        registry.run(a, "occupancy", controls={"random": words})


def test_what_was_asked_is_kept_with_defaults_filled_in(a):
    found = registry.run(a, "occupancy", network="words")
    assert found.asked == {"network": "words", "targets": None, "seed": 0}


def test_the_network_that_a_question_is_about(a):
    find = registry.find("occupancy").network
    assert find(a, {"network": "words"}) == "words"
    assert find(a, {"network": None, "site": "conv1:full"}) == "pixels"
    assert find(a, {"span": "blocks.1.mlp->"}) == "words"
    assert find(a, {"span": "conv1->:full"}) == "pixels"
    assert find(a, {"example": 3}) == "plane"
    with pytest.raises(UnknownName, match=r"holds several networks \(plane, words, pixels\)"):
        find(a, {})
    with pytest.raises(UnknownName, match=r"no site 'blocks.9.mlp'"):
        find(a, {"site": "blocks.9.mlp"})

"""Every experiment is documented, has options with help, and says what is wrong with a question."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from atlas.errors import UnknownName, UsageError
from query.experiments import registry
from query.experiments.registry import EXPERIMENTS, claims, find
from query.experiments.schema import Column, table_of

ROOT = Path(__file__).parents[3]
DEFINITIONS = (ROOT / "docs" / "SCIENCE.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_record_is_complete(name: str):
    experiment = find(name)
    assert experiment.name == name and experiment.version >= 1
    assert EXPERIMENTS[name].endswith(".")
    assert experiment.section is None or re.search(rf"^## {experiment.section} ", DEFINITIONS, re.MULTILINE)
    assert [option.name for option in experiment.fields.values() if not option.help] == []
    needed = {option.name: "x" for option in experiment.fields.values() if option.required}
    experiment.filled({**needed, **experiment.quick})  # `UsageError` for an option that there is not


def test_every_claim_has_rule_and_place():
    """Every claim has its rule and its place."""
    every = [claim for _, claim in claims()]
    assert len({claim.key for claim in every}) == len({claim.order for claim in every}) == len(every)
    for claim in every:
        assert claim.sentence.endswith(".")
        assert (claim.judge is None) == (claim.rule == "") != (claim.shown is None)


def test_undeclared_tables_are_refused(a):
    """A result that differs from the declared tables is refused."""
    occupancy = find("occupancy")
    columns = occupancy.tables["rarefaction"].columns
    for wrong, message in (
        (columns[:-1], "has columns"),
        ((*columns[:-1], Column("distinct", str, "of another type")), "column distinct of table rarefaction"),
    ):
        tables = {**occupancy.tables, "rarefaction": table_of("", *wrong)}
        with pytest.raises(TypeError, match=message):
            replace(occupancy, tables=tables).run(a, network="words")
    with pytest.raises(TypeError, match="occupancy made tables table, rarefaction; it declares table"):
        replace(occupancy, tables={"table": occupancy.tables["table"]}).run(a, network="words")


def test_an_unknown_experiment_lists_all():
    """An unknown experiment is answered with those there are."""
    with pytest.raises(UnknownName, match="no experiment 'entropy'; there are monosemanticity, neuron"):
        registry.find("entropy")


def test_unknown_options_are_refused(a):
    """Options that an experiment does not have are refused."""
    with pytest.raises(UsageError, match="experiment occupancy has no option pairs; it has network, targets, seed"):
        registry.run(a, "occupancy", pairs=3)


def test_stored_experiments_take_no_network(a, words):
    """An experiment on the atlas alone takes no network."""
    with pytest.raises(UsageError, match="reads the atlas alone"):
        registry.run(a, "occupancy", reader=words)
    with pytest.raises(UsageError, match="takes no controls"):
        registry.run(a, "occupancy", controls={"random": words})


def test_defaults_are_kept_with_options(a):
    """What was asked is kept with defaults filled in."""
    found = registry.run(a, "occupancy", network="words")
    assert found.options == {"network": "words", "targets": None, "seed": 0}


def test_the_network_of_a_question(a):
    """The network that a question is about."""
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

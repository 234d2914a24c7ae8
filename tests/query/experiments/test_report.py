"""The report out of what is stored: what is measured has its verdict, what is not its command."""

import shutil
from contextlib import nullcontext
from dataclasses import replace
from shlex import quote

import pytest

import atlas
from atlas.errors import NotStored, UnknownName
from query.experiments import archive, registry
from query.experiments.page import page
from query.experiments.registry import claims
from query.experiments.report import not_stored, stored_blocks, stored_verdicts, trained_networks, verdicts, walk


@pytest.fixture(scope="module")
def measured(built, tmp_path_factory):
    """An atlas that stores two of the report's measurements of one network, and one that has become stale."""
    path = tmp_path_factory.mktemp("standing") / "copy.atlas"
    shutil.copytree(built, path)
    with atlas.open(path) as a:
        small = {"network": "words"}
        found = [registry.run(a, "occupancy", **small), registry.run(a, "density", **small)]
        stale = registry.run(a, "directions", network="words", components=2, k=3)
    with atlas.open(path, writable=True) as a:
        for result in (*found, stale):
            archive.save(a, result)
        a.execute("update experiments set data_digest = 'of other data' where kind = 'directions'")
    return path


def test_stored_claims_have_verdicts(measured):
    """A stored measurement has its verdict and the others their command."""
    told = []
    with atlas.open(measured) as a:
        blocks = stored_blocks(a, "words", progress=lambda done, total: told.append((done, total)))
    assert [block.claim.key for block in blocks] == [claim.key for _, claim in claims()]
    there = {block.claim.key: block for block in blocks if block.result is not None}
    assert set(there) == {"density", "depth", "occupancy"}
    assert there["density"].verdict.word in ("supported", "not supported", "undecided")
    assert there["density"].experiment_id == there["depth"].experiment_id == 2
    missing = {block.claim.key: block.reason for block in blocks if block.result is None}
    assert f"polytope experiment scale {measured} --network words" in missing["peak"].replace("'", "")
    assert missing["projection"] == "no neuron was measured, so none is projected on"
    assert told[-1][0] == told[-1][1] == len(blocks)
    with atlas.open(measured) as a, pytest.raises(UnknownName, match="no network 'nobody'"):
        stored_blocks(a, "nobody")


def test_the_verdicts_are_the_blocks(measured):
    """The verdicts are those of the blocks."""
    with atlas.open(measured) as a:
        found, blocks = stored_verdicts(a, "words"), stored_blocks(a, "words")
    assert found["section"].tolist() == [block.claim.key for block in blocks]
    density = found.set_index("section").loc["density"]
    block = next(block for block in blocks if block.claim.key == "density")
    assert (density["verdict"], density["because"]) == (block.verdict.word, block.verdict.because)
    assert density["experiment_id"] == 2 and density["weights"] == "as given" and density["rule"]
    assert (found["verdict"] == "not measured").sum() == found["experiment_id"].isna().sum() == len(found) - 3


def test_the_page_is_that_of_the_report(measured):
    with atlas.open(measured) as a:
        text = page(a, trained_networks(a, "words"), stored_blocks(a, "words"))
    assert text.startswith("<!doctype html>") and text.count("id='figure-") == 2
    assert all(f"id='{claim.key}'" in text for _, claim in claims())
    assert "not measured" in text and "polytope experiment" in text


class Broken(KeyError):
    """A mistake of ours, as no test foresaw it."""


def broken(*_args, **_options):
    raise Broken("a column of <another> name")


@pytest.mark.parametrize("part", ["measure", "judge"])
def test_a_failing_section_costs_no_other(measured, part):
    """Whatever fails in measuring or judging, the others have their verdicts, and the page says what failed."""

    def answer(a, experiment, network, options):
        if part == "measure" and experiment.name == "density":
            broken()
        found = a.value("select max(experiment_id) from experiments where kind = $1", [experiment.name])
        if found is None:
            raise NotStored("not stored yet")
        result = archive.load(a, found)
        spoilt = part == "judge" and experiment.name == "density"
        return replace(result, tables={}) if spoilt else result, found

    with atlas.open(measured) as a:
        networks = trained_networks(a, "words")
        blocks = list(walk(lambda: nullcontext(a), networks, answer))
        text = page(a, networks, blocks)
    words = {block.claim.key: block.word for block in blocks}
    assert words["density"] == words["depth"] == "failed" and words["occupancy"] == "shown"
    [block] = [block for block in blocks if block.claim.key == "density"]
    assert "through a mistake of polytope-atlas" in block.reason and block.failure is not None
    assert verdicts(blocks).set_index("section")["verdict"].to_dict() == words
    assert text.count("<summary>For a report of this mistake</summary><pre>Traceback") == 2
    assert "a column of &lt;another&gt; name" in text or part == "judge"


def test_a_failing_figure_costs_no_number(measured):
    with atlas.open(measured) as a:
        blocks = stored_blocks(a, "words")
        spoilt = [
            replace(block, result=replace(block.result, draw=broken)) if block.claim.key == "occupancy" else block
            for block in blocks
        ]
        text = page(a, trained_networks(a, "words"), spoilt)
    assert text.count("No figure: this failed through a mistake") == 1 and text.count("id='figure-") == 2


def test_what_is_missing_has_its_command(measured):
    """What is not stored or stale is offered with its command."""
    with atlas.open(measured) as a:
        found = not_stored(a, "words").set_index("kind")
        assert set(found.index) == set(registry.EXPERIMENTS) - {"occupancy", "density"}
        assert found.loc["directions", "options"] == {"network": "words"}
        assert (
            found.loc["directions", "command"]
            == f"polytope experiment directions {quote(str(measured))} --network words"
        )
        assert found.loc["scale", "live"] and "span" in found.loc["scale", "options"]
        assert found.loc["projection", "options"] is None and "no neuron" in found.loc["projection", "reason"]
        for name, row in found[found["options"].notna()].iterrows():
            registry.find(name).filled(row["options"])  # every offer is complete


def test_an_offer_depends_on_earlier_results(measured, tmp_path):
    """An offer depends on what was measured before."""
    path = tmp_path / "copy.atlas"
    shutil.copytree(measured, path)
    with atlas.open(path) as a:
        result = registry.run(a, "neuron", network="words")
    with atlas.open(path, writable=True) as a:
        archive.save(a, result)
        row = not_stored(a, "words").set_index("kind").loc["projection"]
    assert row["options"] == {
        "network": "words",
        "site": result.parameters["site"],
        "unit": result.parameters["unit"],
    }

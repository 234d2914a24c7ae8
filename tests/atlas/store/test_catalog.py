"""Names: what a site or a span means, in which network, and what is said where it means nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import atlas
from atlas.errors import NotStored, UnknownName, UsageError
from atlas.network import Span
from atlas.store.atlas import Atlas
from atlas.store.catalog import Target
from tests.atlases import add_images, add_texts
from tests.networks import PixelNetwork, pixel_images, word_network, word_texts


@pytest.fixture(scope="module")
def a(built: Path) -> Iterator[Atlas]:
    with atlas.open(built) as opened:
        yield opened


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atlas]:
    """Two networks with the same sites; the second holds the codes of two of them only. Images without full codes."""
    path = tmp_path_factory.mktemp("twins") / "twins.atlas"
    add_texts(path, word_network("one"), word_texts(3), spans=("blocks.0.mlp->blocks.2.mlp",))
    two = word_network("two", seed=3)
    add_texts(path, two, word_texts(3), sites=["blocks.0.mlp", "blocks.2.mlp"], activations=[])
    add_images(path, PixelNetwork(), pixel_images(3), sites=["conv1", "conv2", "conv1:full"], activations=[])
    with atlas.open(path) as opened:
        yield opened


def names(target: Target) -> list[str]:
    return [site.name for site in target.sites]


def test_a_site_knows_the_one_before(a: Atlas) -> None:
    target = a.catalog.target(site="blocks.1.mlp")
    assert (target.network.name, target.name, names(target)) == ("words", "blocks.1.mlp", ["blocks.1.mlp"])
    assert target.parts == (20,) and target.n_gates == 20 and target.before.name == "blocks.0.mlp"
    assert a.catalog.target(site="blocks.0.mlp").before is None
    assert target.digest == target.sites[0].codes_digest


@pytest.mark.parametrize(
    ("written", "name", "sites", "before"),
    [
        (
            "blocks.0.mlp->blocks.2.mlp",
            "blocks.0.mlp->blocks.2.mlp",
            ["blocks.1.mlp", "blocks.2.mlp"],
            "blocks.0.mlp",
        ),
        (" blocks.0.mlp  ->  blocks.1.mlp ", "blocks.0.mlp->blocks.1.mlp", ["blocks.1.mlp"], "blocks.0.mlp"),
        ("blocks.1.mlp->", "blocks.1.mlp->", ["blocks.2.mlp", "blocks.3.mlp"], "blocks.1.mlp"),
        ("blocks.1.mlp→", "blocks.1.mlp->", ["blocks.2.mlp", "blocks.3.mlp"], "blocks.1.mlp"),
        ("conv1->", "conv1->", ["conv2"], "conv1"),
        ("conv1->:full", "conv1->:full", ["conv2:full"], "conv1:full"),
        ("conv1:full→conv2:full", "conv1->conv2:full", ["conv2:full"], "conv1:full"),
        ("conv1->conv2:full", "conv1->conv2:full", ["conv2:full"], "conv1:full"),
    ],
)
def test_a_span_is_the_sites_after_one(written: str, name: str, sites: list[str], before: str, a: Atlas) -> None:
    for target in (a.catalog.target(span=written), a.catalog.target(site=written)):
        assert (target.name, names(target), target.before.name) == (name, sites, before)
        assert target.parts == tuple(site.n_gates for site in target.sites)
        assert a.codes(target.sites)[1].parts == target.parts
    assert str(Span.parse(str(Span.parse(written)))) == name


def test_the_digest_of_a_span_is_its_sites(a: Atlas) -> None:
    digests = {a.catalog.target(span=span).digest for span in ("blocks.0.mlp->", "blocks.1.mlp->", "conv1->:full")}
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"name a site or a span, one of the two \(got neither\)"),
        ({"site": "conv1", "span": "conv1->"}, r"got both"),
        ({"span": "conv1"}, r"'conv1' is not a span; write AFTER->TO"),
        ({"span": "->conv1"}, r"is not a span"),
        ({"span": "blocks.3.mlp->"}, r"span blocks.3.mlp-> holds no site: it must end after 'blocks.3.mlp'"),
        ({"span": "blocks.2.mlp->blocks.1.mlp"}, r"holds no site"),
    ],
)
def test_an_impossible_target_is_refused(arguments: dict[str, str], message: str, a: Atlas) -> None:
    with pytest.raises(UsageError, match=message):
        a.catalog.target(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"site": "blocks.9.mlp"}, r"no site 'blocks.9.mlp' in .*; plane has hidden, out; words has blocks.0.mlp"),
        ({"site": "blocks.9.mlp", "network": "words"}, r"in network words; it has blocks.0.mlp, blocks.1.mlp"),
        ({"site": "conv1", "network": "words"}, r"no site 'conv1' in network words"),
        ({"site": "conv1", "network": "nets"}, r"no network 'nets' in .*; it holds plane, words, pixels"),
        ({"span": "blocks.0.mlp->blocks.9.mlp"}, r"span blocks.0.mlp->blocks.9.mlp: no site 'blocks.9.mlp'"),
        ({"span": "blocks.0.mlp->:full", "network": "words"}, r"full-code sites here: none"),
    ],
)
def test_an_unknown_name_lists_the_known(arguments: dict[str, str], message: str, a: Atlas) -> None:
    with pytest.raises(UnknownName, match=message):
        a.catalog.target(**arguments)


def test_a_site_of_two_networks_needs_one(twins: Atlas) -> None:
    for arguments in ({"site": "blocks.0.mlp"}, {"span": "blocks.0.mlp->"}):
        with pytest.raises(UnknownName, match=r"is in several networks \(one, two\); name one with --network"):
            twins.catalog.target(**arguments)
    assert twins.catalog.target(site="blocks.0.mlp", network="two").network.name == "two"
    with pytest.raises(UnknownName, match=r"holds several networks \(one, two, pixels\)"):
        twins.catalog.network()


def test_codes_not_ingested_are_missing(twins: Atlas) -> None:
    for arguments in ({"site": "blocks.1.mlp"}, {"span": "blocks.0.mlp->blocks.2.mlp"}):
        with pytest.raises(NotStored, match=r"of network two needs the codes of blocks.1.mlp, .* with --sites"):
            twins.catalog.target(**arguments, network="two")
    with pytest.raises(NotStored, match=r"conv1->:full of network pixels needs the codes of conv2:full, .* --full"):
        twins.catalog.target(span="conv1->:full")
    assert names(twins.catalog.target(span="blocks.1.mlp->blocks.2.mlp", network="two")) == ["blocks.2.mlp"]


def test_what_is_held_is_listed_in_order(twins: Atlas) -> None:
    assert [network.name for network in twins.catalog.networks] == ["one", "two", "pixels"]
    pixels = twins.catalog.sites_of(twins.catalog.network("pixels"))
    assert [site.name for site in pixels] == ["conv1", "conv2", "conv1:full", "conv2:full"]
    assert twins.catalog.spans == [("one", "blocks.0.mlp->blocks.2.mlp")]
    assert (
        twins.catalog.target(span="conv1->").exact
        and not twins.catalog.target(site="blocks.0.mlp", network="one").exact
    )


def test_without_a_network_one_is_added(tmp_path: Path) -> None:
    with atlas.create(tmp_path / "a") as a:
        with pytest.raises(UnknownName, match="holds no network yet; `polytope ingest` adds one"):
            a.catalog.network()
        with pytest.raises(UnknownName, match="it holds no network yet"):
            a.catalog.target(site="conv1")

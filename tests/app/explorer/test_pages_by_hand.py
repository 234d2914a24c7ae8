"""Pages run without a browser, on an atlas made by hand: what they show is what SQL, NumPy or the query answers."""

from __future__ import annotations

import hashlib
import math
import re
import shutil
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import atlas
import query
from app.explorer.parts.about import measured_densities
from app.explorer.views.look import stored_as
from atlas import Atlas
from atlas.errors import NotStored, UsageError
from ingest.derived.clusters import cluster
from query.experiments import run, save
from tests.app.explorer.running import computed, opened, tables, words
from tests.atlases import add_images, add_texts, png
from tests.networks import PixelNetwork, pixel_images, word_network, word_texts

WORDS, SITE = "words", "blocks.1.mlp"
OLD, NEW, OLD_POINTS, NEW_POINTS = 1, 2, 3, 4
"""Clusterings of that site: two of codes, two of activations."""

PIXELS, CONTROL, MUTE, DARK = "pixels", "untrained", "mute", "dark"
"""Image networks: one and its untrained control, one without activations, and one that read a single label, each
image at two places."""


class UntrainedPixels(PixelNetwork):
    layers = tuple((name, weight[::-1], bias - 0.1) for name, weight, bias in PixelNetwork.layers)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words of two data sets, which share nine texts, and images."""
    path = tmp_path_factory.mktemp("pages") / "made.atlas"
    reader, images = word_network(WORDS, context=0.5, window=12), pixel_images()
    control = UntrainedPixels(CONTROL)
    control.info = replace(control.info, architecture="PixelNetwork", weights="random:0")
    add_texts(path, reader, word_texts(), skip_first=1, per_sequence=6)
    others = [*word_texts()[:9], *word_texts(30, seed=4)]
    add_texts(path, reader, others, skip_first=2, per_sequence=4, dataset="others")
    numbers = [
        cluster(path, site=SITE, space=space, min_cluster_size=size)
        for space, size in (("codes", 12), ("codes", 20), ("activations", 12), ("activations", 5))
    ]
    assert numbers == [OLD, NEW, OLD_POINTS, NEW_POINTS]
    for network in (PixelNetwork(PIXELS), control):
        add_images(path, network, images)
    add_images(path, PixelNetwork(MUTE), images, activations=[])
    for place in ((0.0, 0.0), (0.5, 0.5)):
        add_images(path, PixelNetwork(DARK), images[::2], place=place)
    return path


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """A copy that may be written."""
    return Path(shutil.copytree(made, tmp_path / "own.atlas"))


# --- search ----------------------------------------------------------------------------------------------------

K = 6  # nearest


def nearest(a: Atlas, example: int, condition: str) -> list[tuple[int, int]]:
    """(distance, id) of the others of which the condition holds, every bit compared: all who share the polytope, and
    the nearest of those who don't."""
    found = a.rows(
        f"""
        with here as (
            select site_id, example_id, code::bit as bits
            from codes join sites using (site_id) join networks using (network_id)
            where networks.name = $1 and sites.name = $2
        )
        select bit_count(xor(there.bits, here.bits)) as distance, example_id
        from here as there join examples using (example_id) join here on here.example_id = $3
        where examples.example_id <> $3 and {condition}
        order by distance, example_id
        """,
        [WORDS, SITE, example],
    )
    same = [row for row in found if row[0] == 0]
    return found[: len(same) + K]


IN_CLUSTER = "example_id in (select example_id from cluster_labels where clustering_id = {} and label = {})"
IN_OTHERS = (
    "input_id in (select input_id from dataset_inputs where dataset_id = "
    "(select dataset_id from datasets where name = 'others'))"
)


def found(app: AppTest) -> list[tuple[int, int]]:
    """(distance, id) of who shares the polytope and of who lies near, as shown."""
    *same, outside = tables(app)
    return [(0, int(row[-1])) for table in same for row in table] + [(int(row[1]), int(row[-1])) for row in outside]


def test_a_filtered_search_finds_nearest(made: Path):
    """From a member for whom each search finds others than the rest."""
    with atlas.open(made) as a:
        members = a.rows(
            """
            select example_id, label, probability from cluster_labels
            where clustering_id = $1 and label >= 0
            order by example_id
            """,
            [NEW],
        )

        def answers(example: int, cluster: int) -> list[list[tuple[int, int]]]:
            other = 0 if cluster else 1
            mine = IN_CLUSTER.format(NEW, cluster)
            filters = ["true", mine, *(IN_CLUSTER.format(NEW, label) for label in (other, -1))]
            filters += [IN_OTHERS, f"{IN_OTHERS} and {mine}"]
            filters += [IN_CLUSTER.format(n, label) for n in (OLD, NEW_POINTS) for label in (cluster, other, -1)]
            return [nearest(a, example, where) for where in filters]

        def differ(answered: list[list[tuple[int, int]]]) -> bool:
            wanted, unwanted = answered[:6], answered[6:]
            all_differ = len(set(map(str, wanted))) == 6 and not any(answer in unwanted for answer in wanted[1:4])
            return all_differ and all(len(answer) >= K for answer in wanted)

        example, cluster, strength, answered = next(
            (example, cluster, strength, answered[:6])
            for example, cluster, strength in members
            if differ(answered := answers(example, cluster))
        )
    everywhere, in_mine, in_other, in_noise, in_others, in_both = answered
    other = 0 if cluster else 1
    here: dict[str, object] = {"network": WORDS, "target": SITE, "example": example, "k": K}
    for filters, expected in (
        ({"in_cluster": cluster}, in_mine),
        ({"in_cluster": -1}, in_noise),
        ({"dataset": "others"}, in_others),
    ):
        app = opened(made, "look", **here, **filters)
        assert found(app) == expected, filters
        assert f" #{cluster} of clustering {NEW} (strength {strength:.2f})" in words(app)

    app = opened(made, "look", **here)
    assert found(app) == everywhere
    app.number_input(key="in_cluster").set_value(other)
    assert found(computed(app)) == in_other
    app.number_input(key="in_cluster").set_value(cluster)
    app.selectbox(key="dataset").set_value("others")
    assert found(computed(app)) == in_both


def test_all_others_can_be_looked_for(made: Path):
    """All others can be looked for and from a new image everyone."""
    with atlas.open(made) as a:
        n, site = a.rows(
            "select n_codes, sites.name from sites join networks using (network_id) "
            "where networks.name = $1 and n_codes > 0 order by ordinal",
            [MUTE],
        )[0]
    app = opened(made, "look", network=MUTE, target=site, k=n)
    assert app.number_input(key="k").max == n - 1
    assert f"expected a whole number from 1 to {n - 1}" in words(app)
    app.file_uploader[0].set_value(("new.png", png(pixel_images()[0][2]), "image/png"))
    assert computed(app).number_input(key="k").max == n


def test_a_file_is_its_first_example(made: Path):
    """A file is known as the first example that a network read of it."""
    file = png(pixel_images()[2][2])
    with atlas.open(made) as a:
        holders = a.rows(
            """
            select name, min(example_id), count(*)
            from examples join inputs using (input_id) join networks using (network_id)
            where content_hash = $1 group by name order by name
            """,
            [hashlib.sha256(file).hexdigest()],
        )
        assert [(name, n) for name, _, n in holders] == [(DARK, 2), (MUTE, 1), (PIXELS, 1), (CONTROL, 1)]
        for network, example, _ in holders:
            number = a.catalog.network(network).network_id
            assert stored_as(a, number, hashlib.sha256(file).hexdigest()) == example
            assert stored_as(a, number, hashlib.sha256(b"another").hexdigest()) is None


# --- clusters --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "part", "newest", "older"),
    [(NEW, "Against activations", NEW_POINTS, OLD_POINTS), (NEW_POINTS, "Against codes", NEW, OLD)],
)
def test_members_go_to_the_other_space(made: Path, shown: int, part: str, newest: int, older: int):
    """Into its newest clustering to begin with, and into another that is named."""
    with atlas.open(made) as a:
        labels = {
            number: dict(a.rows("select example_id, label from cluster_labels where clustering_id = $1", [number]))
            for number in (shown, newest, older)
        }
    here: dict[str, object] = {"network": WORDS, "target": SITE, "clustering": shown, "part": part}
    for other, address in ((newest, {}), (older, {"other": older})):
        rows = {called(label): fates(labels[shown], label, labels[other]) for label in {*labels[shown].values()}}
        cluster, expected = max(rows.items(), key=lambda item: len(item[1]))
        app = opened(made, "cluster", **here, cluster=cluster, **address)
        table = tables(app)[-1]
        assert [[row[0].rpartition("#")[2], *row[1:]] for row in table] == expected and len(table) > 1
        links = [re.findall(r'href="cluster\?clustering=(\d+)&amp;cluster=(\w+)', part.value) for part in app.html]
        assert [(str(other), row[0].rpartition("#")[2]) for row in table] in links
        assert app.selectbox(key="other").value.startswith(f"{other}: ")


def called(label: int) -> str:
    return "noise" if label == -1 else str(label)


def fates(labels: dict[int, int], cluster: int, there: dict[int, int]) -> list[list[str]]:
    """Rows of the table: cluster there, share of the members, its size, overlap; most first."""
    members = {example for example, label in labels.items() if label == cluster and example in there}
    rows = []
    for other in set(there.values()):
        held = {example for example, label in there.items() if label == other}
        both = len(members & held)
        row = [
            called(other),
            f"{both / len(members):.0%}",
            f"{len(held):,}",
            f"{both / len(members | held):#.2g}",
        ]
        rows += [(-both, other, row)] if both else []
    return [row for _, _, row in sorted(rows)]


# --- names -----------------------------------------------------------------------------------------------------


def labelled(app: AppTest, label: str) -> Any:
    """The only text field of that label."""
    [field] = [field for field in (*app.text_input, *app.text_area) if field.label == label]
    return field


def save_names(app: AppTest) -> AppTest:
    [button] = [button for button in app.button if button.label == "Save"]
    button.click()
    return computed(app)


def test_a_name_is_saved_while_a_job_reads(own: Path):
    with atlas.open(own) as a:
        cluster = int(query.clusters(a, clustering=NEW)["label"].iloc[-1])
        app = opened(own, "cluster", network=WORDS, target=SITE, clustering=NEW, cluster=cluster)
        labelled(app, "Name").set_value("a name")
        labelled(app, "Note").set_value("two\nlines")
        save_names(app)
    assert names(own) == [(cluster, "a name", "two\nlines")]
    assert app.header[-1].value.startswith(f"a name \\#{cluster}: ")


def test_another_persons_name_is_shown_first(own: Path):
    """The second page writes a note into the form that it drew before there was a name."""
    with atlas.open(own) as a:
        cluster = int(query.clusters(a, clustering=NEW)["label"].iloc[-1])
    here: dict[str, object] = {"network": WORDS, "target": SITE, "clustering": NEW, "cluster": cluster}
    one, other = (opened(own, "cluster", **here) for _ in range(2))
    labelled(one, "Name").set_value("first name")
    save_names(one)
    labelled(other, "Note").set_value("a note alone")
    save_names(other)
    assert names(own) == [(cluster, "first name", None)]
    assert "Not saved: somebody else has changed the name or note meanwhile." in words(other)
    assert "Now the name is “first name” and the note is empty." in words(other)
    assert other.header[-1].value.startswith(f"first name \\#{cluster}: ")
    assert labelled(other, "Name").value == "" and labelled(other, "Note").value == "a note alone"

    labelled(one, "Note").set_value("two\nlines")  # while the second reads what the first had saved
    save_names(one)
    save_names(other)
    assert names(own) == [(cluster, "first name", "two\nlines")]
    assert "Now the name is “first name” and the note is “two lines”." in words(other)
    labelled(other, "Name").set_value("second name")
    save_names(other)
    assert "Not saved" not in words(other)
    assert names(own) == [(cluster, "second name", "a note alone")]


def test_saving_the_same_twice_is_quiet(own: Path):
    """As of one who clicks twice."""
    with atlas.open(own) as a:
        cluster = int(query.clusters(a, clustering=NEW)["label"].iloc[-1])
    pages = [opened(own, "cluster", network=WORDS, target=SITE, clustering=NEW, cluster=cluster) for _ in range(2)]
    for app in pages:
        labelled(app, "Name").set_value(" one name ")
        save_names(app)
        assert "Not saved" not in words(app)
    assert names(own) == [(cluster, "one name", None)]


def names(path: Path) -> list[tuple[int, str, str | None]]:
    with atlas.open(path) as a:
        return a.rows(
            "select label, name, note from named_clusters where clustering_id = $1 and name is not null", [NEW]
        )


# --- what an address asks for ----------------------------------------------------------------------------------


def in_vain(app: AppTest) -> list[str]:
    """What the address asks for and there is not, as the page says it; and it does so no more."""
    asked = [line.removeprefix("the address asks for ") for line in words(app).splitlines() if "the address" in line]
    assert not {line.split()[0] for line in asked} & {*app.query_params}
    return asked


@pytest.mark.parametrize("part", ["Stored", "Not stored", "Report"])
def test_an_absent_result_is_said(made: Path, part: str):
    """A result or kind that there is not is said where none is stored."""
    address: dict[str, object] = {"network": WORDS, "show": part, "experiment": "nope", "kind": "nonesuch"}
    app = opened(made, "claims", **address)
    kinds, number = (
        ("all", f"none, for none is stored of {WORDS}")
        if part == "Stored"
        else (
            "all or the name of an experiment",
            "none",
        )
    )
    sentences = [
        f"kind nonesuch; expected {kinds}; shown is all",
        f"experiment nope; expected the number of a stored result; shown is {number}",
    ]
    assert in_vain(app) == sentences
    assert in_vain(computed(app)) == sentences, "for as long as that is shown"


def test_a_list_of_results_keeps_its_address(own: Path):
    """What the list of results shows stays in the address beside it."""
    with atlas.open(own) as a:
        result = run(a, "occupancy", network=WORDS)
    with atlas.open(own, writable=True) as a:
        number = save(a, result)
    here: dict[str, object] = {"network": WORDS, "experiment": number, "kind": "occupancy"}
    for part in ("Stored", "Not stored"):
        app = opened(own, "claims", show=part, **here)
        assert in_vain(app) == [] and "experiment" in app.query_params
    assert in_vain(opened(own, "claims", network=WORDS, show="Not stored", experiment=number + 1)) == [
        f"experiment {number + 1}; expected the number of a stored result; shown is none"
    ]


@pytest.mark.parametrize("within", ["a,b", "nan,nan,inf,inf", "1e308,0,-1e308,5", "0,0,1,1"])
def test_a_region_without_a_map_is_said(made: Path, within: str):
    """A region of a site without a map is said."""
    app = opened(made, "map", network=WORDS, target=SITE, within=within)
    sentence = f"within {within}; expected a region of a map; shown is {SITE}, which has none"
    assert in_vain(app) == [sentence] == in_vain(computed(app))
    app.selectbox(key="target").select("blocks.0.mlp")
    assert in_vain(computed(app)) == []


# --- density ---------------------------------------------------------------------------------------------------


class Means(NamedTuple):
    """Of the density of all pairs of one label, and of different labels, and how many there are."""

    same: float
    different: float
    n_same: int
    n_different: int


def means(a: Atlas, network: str) -> Means:
    """Boundaries of conv2 between two images, over the distance of their activations at conv1, pair by pair."""
    sites = {site.name: site for site in a.catalog.sites_of(a.catalog.network(network))}
    ids, codes = a.codes([sites["conv2:full"]])
    _, points = a.activations(sites["conv1:full"], ids)
    gates = codes.unpack()
    labels = dict(a.rows("select example_id, label from examples"))
    densities: dict[bool, list[float]] = {True: [], False: []}
    for i, j in combinations(range(len(ids)), 2):
        distance = np.linalg.norm(points[i].astype(float) - points[j].astype(float))
        densities[labels[ids[i]] == labels[ids[j]]].append((gates[i] != gates[j]).sum() / distance)
    same, different = densities[True], densities[False]
    return Means(float(np.mean(same)), float(np.mean(different)), len(same), len(different))


ALL_PAIRS = 100
"""More than there are of twelve images, so that all are measured."""


def test_density_stands_beside_controls(own: Path):
    """Measured as the address says, and as it is stored; a control stands alone."""
    with atlas.open(own) as a:
        expected = {network: means(a, network) for network in (PIXELS, CONTROL)}
        result = run(a, "density", network=PIXELS, pairs=ALL_PAIRS, resamples=50)
    assert not math.isclose(*(found.same for found in expected.values()), rel_tol=0.01)

    def shown(*networks: tuple[str, str]) -> list[list[str]]:
        return [
            [
                "conv1->:full",
                called,
                f"{found.n_same} + {found.n_different}",
                f"{found.same:#.4g}",
                f"{found.different:#.4g}",
                f"{found.different / found.same:#.4g}",
            ]
            for network, called in networks
            for found in [expected[network]]
        ]

    def measured(network: str, **address: object) -> list[list[str]]:
        app = opened(own, "claims", network=network, target="conv2:full", **address, **{"claim-density": "true"})
        assert "To add the untrained networks" not in words(app)
        return [[cell.split(" [")[0] for cell in row[:6]] for row in tables(app)[1]]

    beside = shown((PIXELS, "trained"), (CONTROL, "untrained, calibrated"))
    assert measured(PIXELS, pairs=ALL_PAIRS) == beside
    assert measured(CONTROL, pairs=ALL_PAIRS) == shown((CONTROL, "untrained, calibrated"))
    with atlas.open(own, writable=True) as a:
        save(a, result)
    assert measured(PIXELS) == beside


def test_missing_densities_are_explained(made: Path):
    """The overview says why densities are missing."""
    with atlas.open(made) as a:
        expected = means(a, PIXELS)
        known = measured_densities(a, PIXELS)
        assert known.why_none is None
        assert known.of_sites == {
            "conv1:full": {"intra": pytest.approx(expected.same), "inter": pytest.approx(expected.different)}
        }
        for network, error in ((MUTE, NotStored), (DARK, UsageError)):
            with pytest.raises(error) as lacking:
                query.class_density(a, network=network)
            missing = measured_densities(a, network)
            assert (missing.of_sites, missing.why_none) == ({}, f"No densities: {lacking.value}")
            app = opened(made, "about", network=network)
            assert missing.why_none.replace("`", "") in words(app)
    assert "No densities" not in words(opened(made, "about", network=PIXELS))

"""Every damage is found, named, and is a row of the table rather than an exception."""

import shutil

import pytest

import atlas
import query
from tests.atlases import add_images
from tests.networks import PixelNetwork, pixel_images


def failures(path):
    with atlas.open(path) as a:
        found = query.verify(a)
    return {(row.check, row.subject): row.detail for row in found[~found["ok"]].itertuples()}


def test_a_sound_atlas_is_found_so(a):
    found = query.verify(a)
    assert found.columns.tolist() == ["check", "subject", "ok", "detail"]
    assert found["ok"].all(), found[~found["ok"]]
    assert found["detail"].eq("").all() and len(found) > 100


def test_an_empty_atlas_is_sound(tmp_path):
    atlas.create(tmp_path / "a").close()
    assert failures(tmp_path / "a") == {}


WIDTH = ("codes have the site's width", "words blocks.2.mlp")
CODES = ("codes have the site's count and digest", "words blocks.2.mlp")
ACTIVE = ("n_active counts the gates on", "words blocks.2.mlp")
PADDING = ("padding bits are zero", "words blocks.2.mlp")
INDEX = ("index fits the codes", "words blocks.2.mlp")
ACTIVATIONS = ("activations have the site's count and digest", "words blocks.2.mlp")
LENGTH = ("activations have a number a unit", "words blocks.2.mlp")
FINITE = ("activations are finite", "words blocks.2.mlp")
CLUSTERING = "clustering 2 (blocks.3.mlp)"
HERE = "where site_id = 5 and example_id = 40"  # blocks.2.mlp


FLIPPED = "update codes set code = set_bit(code, 3, 1 - get_bit(code, 3)) where site_id = 5"


def rows(subject):
    return ("rows are as they were written", subject)


def refers(column):
    return ("refers to what exists", column)


def once(key):
    return ("each occurs once", key)


DAMAGES: list[list[tuple[str, dict[tuple[str, str], str]]]] = [
    [
        (
            f"update codes set code = '101' {HERE}",
            {WIDTH: "1 codes are not 2 bytes (9 gates), the first at example 40", CODES: "codes of another width"},
        ),
        (f"update codes set n_active = n_active + 1 {HERE}", {ACTIVE: "1 codes have another number of gates on"}),
        (f"update activations set example_id = 9999 {HERE}", {refers("activations.example_id"): "9999"}),
        (
            f"update activations set activation = list_transform(activation, lambda x: x + 1) {HERE}",
            {ACTIVATIONS: "it was changed since"},
        ),
        (
            "update examples set input_id = 9999, run_id = 99, network_id = 98 where example_id = 40",
            {
                refers("examples.input_id"): "9999",
                refers("examples.run_id"): "99",
                refers("examples.network_id"): "98",
            },
        ),
        ("insert into examples from examples where example_id = 40", {once("examples (example_id)"): "2 times"}),
    ],
    [
        (
            f"{FLIPPED} and example_id = 12",
            {
                CODES: "it was changed since",
                ACTIVE: "the first at example 12",
                INDEX: "it does not find the code of example 12; build it with `polytope index",
            },
        ),
        (
            f"update codes set code = set_bit(code, 12, 1), n_active = n_active + 1 {HERE}",
            {PADDING: "1 codes have a padding bit set"},
        ),
        (
            f"update codes set example_id = 9999 {HERE}",
            {refers("codes.example_id"): "1 rows refer to examples that are not there, the first to example_id 9999"},
        ),
        (
            f"insert into activations from activations {HERE}",
            {once("activations (site_id, example_id, part)"): "occurs 2 times"},
        ),
        (
            f"update activations set activation = activation[:3] {HERE}",
            {LENGTH: "1 are not 9 long, the first at example 40"},
        ),
        (
            f"update activations set activation = list_transform(activation, lambda x: 'nan'::float) {HERE}",
            {FINITE: "1 hold NaN or infinity, the first at example 40"},
        ),
    ],
    [
        (
            f"delete from codes {HERE}",
            {CODES: "sites says 360, there are 359", INDEX: "the index was built from 360 codes"},
        ),
        (
            f"update activations set activation = list_concat(activation[:8], ['inf'::float]) {HERE}",
            {FINITE: "1 hold NaN or infinity"},
        ),
        (
            "update dataset_inputs set input_id = 9999 where ordinal = 5 and dataset_id = 2",
            {refers("dataset_inputs.input_id"): "9999"},
        ),
        (
            "update cluster_labels set example_id = 9999 where clustering_id = 2 and example_id = 40",
            {refers("cluster_labels.example_id"): "9999"},
        ),
        (
            "insert into cluster_labels values (77, 40, 0, 1, 1, 1, false)",
            {refers("cluster_labels.clustering_id"): "77"},
        ),
        (
            "update clusters set size = size + 1, medoid = 3 where clustering_id = 2 and label = 0",
            {
                ("clusters have their sizes", CLUSTERING): "clusters [0] have other sizes",
                ("medoids are members", CLUSTERING): "not so in clusters [0]",
            },
        ),
    ],
    [
        (
            f"insert into codes (site_id, example_id, code, n_active) "
            f"select site_id, example_id, code, n_active from codes {HERE}",
            {once("codes (site_id, example_id)"): "site_id, example_id = 5, 40 occurs 2 times"},
        ),
        (
            "delete from cluster_labels where clustering_id = 2 and example_id = 40",
            {("labels have the clustering's counts", CLUSTERING): "its labels give (359,"},
        ),
        (
            "update examples set label = label || '!', loss = 1 where example_id = 40",
            {rows("examples, run_id 2"): "label, loss changed since it was written"},
        ),
        ("update inputs set text = 'another' where input_id = 12", {rows("inputs, run_id 2"): "text changed"}),
        (
            "update inputs set thumbnail = '\\x00'::blob where thumbnail is not null",
            {rows("inputs, run_id 3"): "thumbnail changed"},
        ),
        (
            "update clusters set purity = 0.123 where clustering_id = 2 and label = 0",
            {rows("clusters, clustering_id 2"): "purity changed"},
        ),
    ],
    [
        (f"update codes set site_id = 99 {HERE}", {refers("codes.site_id"): "the first to site_id 99"}),
        (
            "update examples set probability = probability / 2 where example_id = 40",
            {rows("examples, run_id 2"): "probability changed"},
        ),
        ("delete from inputs where input_id = 12", {rows("inputs, run_id 2"): "60 rows were written, there are 59"}),
        (
            "update cluster_labels set probability = 1 - probability where clustering_id = 2 and example_id = 40",
            {rows("cluster_labels, clustering_id 2"): "probability changed"},
        ),
        ("update clusterings set purity = 0.5", {rows("clusterings, clustering_id 1"): "purity changed"}),
        ("update networks set weights = 'x'", {rows("networks"): "weights changed"}),
    ],
    [
        (
            f"update codes set example_id = 372 {HERE}",
            {("codes belong to their network", "codes"): "1 codes belong to an example of another network"},
        ),
        (
            "update sites set n_codes = 361, n_activations = 0 where site_id = 5",
            {CODES: "sites says 361, there are 360", ACTIVATIONS: "sites says 0, there are 360"},
        ),
        (
            "insert into neighbors values (2, 'blocks.2.mlp', 40, 1, 41, 0)",
            {rows("neighbors, network_id 2, target blocks.2.mlp"): "has no digest"},
        ),
        (
            "delete from indexes where target = 'blocks.2.mlp'",
            {INDEX: "there is none; build it with `polytope index"},
        ),
        (
            "insert into indexes values (2, 'blocks.9.mlp', 'flat', 'x', 1, 'x', null, null, null, null)",
            {("index fits the codes", "words blocks.9.mlp"): "no site 'blocks.9.mlp' in network words"},
        ),
        (
            "insert into spans values (2, 2, 'blocks.1.mlp->')",
            {("index fits the codes", "words blocks.1.mlp->"): "there is none"},
        ),
    ],
    [
        (
            "update sites set codes_digest = 'x' where site_id = 5",
            {CODES: "sites says x, what is stored has", INDEX: "the atlas holds 360 codes with digest x"},
        ),
        (
            "update indexes set n_codes = 3 where target = 'blocks.1.mlp'",
            {("index fits the codes", "words blocks.1.mlp"): "the table of indexes says 3 codes"},
        ),
        (
            "update indexes set file = 'none.faiss' where target = 'blocks.0.mlp'",
            {("index fits the codes", "words blocks.0.mlp"): "there is no index at"},
        ),
    ],
]
"""Statements and what is found of each. Those of a list are run on one atlas: none hides what another does."""


@pytest.mark.slow
@pytest.mark.parametrize("damages", DAMAGES)
def test_damage_is_found(damaged, damages):
    found = failures(damaged(*(statement for statement, _ in damages)))
    for _, expected in damages:
        for check, detail in expected.items():
            assert check in found and detail in found[check], found


def test_faults_of_index_files_are_found(damaged):
    path = damaged()
    with atlas.open(path) as a:
        files = dict(a.rows("select target, file from indexes where network_id = 2"))
    folder = path / "indexes"
    with (folder / files["blocks.1.mlp"]).open("r+b") as file:
        file.seek(40)
        file.write(b"\xff\x00\xff")
    (folder / files["blocks.2.mlp"]).unlink()
    for suffix in (".faiss", ".json"):
        shutil.copy(
            (folder / files["blocks.0.mlp"]).with_suffix(suffix), (folder / files["blocks.3.mlp"]).with_suffix(suffix)
        )
    found = failures(path)
    assert {subject for _, subject in found} == {"words blocks.1.mlp", "words blocks.2.mlp", "words blocks.3.mlp"}
    assert "is damaged" in found["index fits the codes", "words blocks.1.mlp"]


def test_an_index_that_is_behind(damaged):
    path = damaged()
    add_images(path, PixelNetwork(), pixel_images(14)[12:], indexed=False)
    assert set(failures(path)) == {
        ("index fits the codes", f"pixels {site}") for site in ("conv1", "conv2", "conv1:full", "conv2:full")
    }

"""Nearest polytopes: FAISS, NumPy and SQL agree on every distance, and every way to ask means the same."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import atlas
import query
from atlas.errors import (
    BadInput,
    IndexMismatch,
    IndexMissing,
    NonFinite,
    NotStored,
    UnknownName,
    UsageError,
    WeightsError,
    WidthError,
)
from ingest.derived.indexes import build_indexes
from tests.atlases import add_images, add_texts
from tests.networks import REGIONS, PixelNetwork, pixel_images, plane_network, word_network, word_texts

ANSWER = ["rank", "example_id", "distance", "density", "label", "cluster", "prediction", "loss"]
TEXT_COLUMNS = [*ANSWER, "token", "context", "context_offset", "input_id", "position"]
IMAGE_COLUMNS = [*ANSWER, "key", "thumbnail", "input_id"]

# Indexed sites, an indexed span, spans without an index.
TARGETS = ["blocks.0.mlp", "blocks.2.mlp", "blocks.0.mlp->", "blocks.1.mlp->", "blocks.1.mlp->blocks.2.mlp"]


def by_numpy(a, target, example):
    """Unpacked bits, compared one by one: (ids, distances) ordered by (distance, id)."""
    ids, codes = a.codes(a.catalog.target(site=target).sites)
    gates = codes.unpack()
    distances = (gates != gates[ids == example]).sum(axis=1)
    order = np.lexsort((ids, distances))
    return ids[order], distances[order]


def by_sql(a, target, example):
    """`hamming` of the site's codes, summed over a span."""
    names = [site.name for site in a.catalog.target(site=target).sites]
    frame = a.sql(
        """
        select there.example_id, cast(sum(hamming(here.code, there.code)) as bigint) as distance
        from codes as here
        join codes as there using (site_id)
        join sites using (site_id)
        where here.example_id = $1 and sites.name in (select unnest($2))
        group by there.example_id
        order by distance, there.example_id
        """,
        [example, names],
    )
    return frame["example_id"].to_numpy(), frame["distance"].to_numpy()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("example", [12, 371])
def test_faiss_numpy_and_sql_agree(a, target, example):
    found = query.nearest(a, example=example, site=target, k=360, include_self=True)
    for ids, distances in (by_numpy(a, target, example), by_sql(a, target, example)):
        assert found["example_id"].tolist() == ids.tolist()
        assert found["distance"].tolist() == distances.tolist()
    for radius in (0, int(distances[100])):  # included
        within = query.nearest(a, example=example, site=target, radius=radius, include_self=True)
        assert within["example_id"].tolist() == ids[distances <= radius].tolist()


@settings(max_examples=15)
@given(bits=st.text("01", min_size=31, max_size=31), radius=st.integers(0, 31), k=st.integers(1, 360))
def test_any_code_any_radius(a, bits, radius, k):
    ids, codes = a.codes(a.catalog.target(site="blocks.3.mlp").sites)
    distances = (codes.unpack() != (np.array(list(bits)) == "1")).sum(axis=1)
    order = np.lexsort((ids, distances))
    within = order[distances[order] <= radius]
    asked = {"code": bits, "site": "blocks.3.mlp"}
    assert query.nearest(a, **asked, radius=radius)["example_id"].tolist() == ids[within].tolist()
    assert query.nearest(a, **asked, k=k)["example_id"].tolist() == ids[order[:k]].tolist()
    assert query.nearest(a, **asked, k=k, radius=radius)["example_id"].tolist() == ids[within[:k]].tolist()


def test_itself_alone_is_left_out(a):
    """Not the others of its polytope, not even where more than k of them have lower ids and would be there first."""
    with_self = query.nearest(a, example=30, site="blocks.3.mlp", k=20, include_self=True)
    without = query.nearest(a, example=30, site="blocks.3.mlp", k=19)
    assert 30 in with_self["example_id"].tolist()
    assert without["example_id"].tolist() == [i for i in with_self["example_id"] if i != 30]
    ids, distances = by_numpy(a, "blocks.2.mlp", 12)
    *first, last = ids[distances == 0].tolist()
    assert query.nearest(a, example=last, site="blocks.2.mlp", k=3)["example_id"].tolist() == first[:3]


def test_columns_of_a_text(a):
    found = query.nearest(a, example=40, site="blocks.3.mlp")
    assert found.columns.tolist() == TEXT_COLUMNS
    assert found["rank"].tolist() == list(range(1, 11))
    for row in found.itertuples():
        assert row.context[row.context_offset :].startswith(row.token)
    stored = a.frame("select example_id, label, prediction, input_id, position from examples").set_index("example_id")
    for name in stored:
        assert found[name].tolist() == stored.loc[found["example_id"], name].tolist()


def test_columns_of_an_image(a):
    found = query.nearest(a, example=372, site="conv1:full", k=3)
    assert found.columns.tolist() == IMAGE_COLUMNS
    keys = {key: number for number, (key, _, _) in enumerate(pixel_images(), start=372)}
    assert [keys[key] for key in found["key"]] == found["example_id"].tolist()
    assert all(bytes(thumbnail).startswith(b"\x89PNG") for thumbnail in found["thumbnail"])


def test_what_is_said_about_the_answer(a):
    said = query.nearest(a, example=40, site="blocks.3.mlp").attrs
    assert (said["network"], said["target"], said["n_gates"], said["n_codes"]) == ("words", "blocks.3.mlp", 31, 360)
    assert said["exact_search"] is True and said["searched"] == "Hamming index"
    assert said["exact"] is False and "signs of gelu_new preactivations: a definition" in said["exact_note"]
    said = query.nearest(a, example=40, span="blocks.1.mlp->").attrs
    assert said["exact_search"] is True and "this span has no index" in said["searched"]
    assert query.nearest(a, example=1, site="hidden", k=1).attrs["exact"] is True


# --- clusters --------------------------------------------------------------------------------------------------


def test_whose_clusters_are_shown(a):
    """Those of the newest clustering of codes, or else of activations, or of the clustering that is named."""
    found = query.nearest(a, example=40, site="blocks.3.mlp", k=50)
    assert found.attrs["clustering"] == 3
    stored = dict(a.rows("select example_id, label from cluster_labels where clustering_id = 3"))
    assert found["cluster"].tolist() == [stored[example] for example in found["example_id"]]
    assert query.nearest(a, example=40, site="blocks.1.mlp").attrs["clustering"] == 1
    none = query.nearest(a, example=40, site="blocks.2.mlp")
    assert none.attrs["clustering"] is None and none["cluster"].isna().all()
    assert query.nearest(a, example=40, site="blocks.2.mlp", clustering=2).attrs["clustering"] == 2


# --- density ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["blocks.2.mlp", "blocks.1.mlp->"])
def test_density_is_crossings_over_distance(a, target):
    before = a.catalog.target(site="blocks.1.mlp").sites[0]
    ids, points = a.activations(before)
    point = dict(zip(ids, points.astype(np.float64), strict=True))
    found = query.nearest(a, example=12, site=target, k=359)
    for row in found.itertuples():
        distance = np.sqrt(((point[12] - point[row.example_id]) ** 2).sum())
        if distance == 0:
            assert np.isnan(row.density)
        else:
            assert row.density == pytest.approx(row.distance / distance, rel=1e-12)
    assert found["density"].isna().any()
    assert "their activations at blocks.1.mlp are equal" in found.attrs["density_note"]


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"example": 40, "site": "blocks.0.mlp"}, "blocks.0.mlp is the first site of network words"),
        ({"example": 372, "site": "conv2"}, "conv2 of network pixels has position codes; density needs full codes"),
        ({"example": 372, "site": "conv1:full"}, "conv1:full is the first site"),
        ({"code": "1" * 9, "site": "blocks.2.mlp"}, "a code alone is no point"),
    ],
)
def test_why_there_is_no_density(a, asked, why):
    found = query.nearest(a, **asked, k=2)
    assert found["density"].isna().all() and why in found.attrs["density_note"]


def test_density_without_activations(tmp_path):
    add_texts(tmp_path / "a", word_network(), word_texts(4), activations=["blocks.1.mlp"])
    add_texts(tmp_path / "a", word_network(), word_texts(8)[4:], activations=[])
    with atlas.open(tmp_path / "a") as a:
        none = query.nearest(a, example=1, span="blocks.0.mlp->")
        assert "at site blocks.0.mlp of network words, and none are stored" in none.attrs["density_note"]
        assert "--store-activations" in none.attrs["density_note"]
        some = query.nearest(a, example=1, span="blocks.1.mlp->", k=47)
        assert some.loc[some["example_id"] > 24, "density"].isna().all()
        assert "no density for 24 of 47: no stored activation at site blocks.1.mlp" in some.attrs["density_note"]
        nowhere = query.nearest(a, example=30, span="blocks.1.mlp->")
        assert nowhere.attrs["density_note"] == "no density: example 30 has no stored activation at site blocks.1.mlp"


# --- read live -------------------------------------------------------------------------------------------------


def test_regions_worked_out_on_paper(a, plane):
    stored = dict(a.rows("select token, example_id from examples where network_id = 1"))
    for place, site in enumerate(["hidden", "out"]):
        for point, codes in REGIONS.items():
            if point == "nan:1":
                continue
            live = query.nearest(a, text=point, site=site, reader=plane, radius=0)
            by_code = query.nearest(a, code=codes[place], site=site, radius=0)
            same = [stored[other] for other in stored if REGIONS[other][place] == codes[place]]
            assert live["example_id"].tolist() == by_code["example_id"].tolist() == sorted(same)


def test_a_live_text_is_its_example(a, words):
    """Every token of a text, in whichever window it lies, counted from the start or from the end."""
    text = a.value("select text from inputs join examples using (input_id) where example_id = 40")
    n_tokens = len(text.split(" "))
    rows = a.rows(
        "select example_id, position from examples join inputs using (input_id) where text = $1 and network_id = 2",
        [text],
    )
    assert {position // words.window for _, position in rows} == {0, 1, 2}
    for example, position in rows:
        for token in (position, position - n_tokens):
            asked = {"text": text, "token": token, "reader": words}
            live = query.nearest(a, **asked, span="blocks.0.mlp->", k=40)
            stored = query.nearest(a, example=example, span="blocks.0.mlp->", k=40, include_self=True)
            assert live["example_id"].tolist() == stored["example_id"].tolist()
            np.testing.assert_array_equal(live["density"], stored["density"])
    last = query.nearest(a, text="metal1 river2 fruit3", site="blocks.0.mlp", reader=words)
    assert last.attrs["subject"] == "token 2 ('fruit3') of the text"


def test_a_live_image_is_its_example(a, pixels, tmp_path):
    image = pixel_images()[4][2]
    image.save(tmp_path / "four.png")
    for asked in (image, tmp_path / "four.png", str(tmp_path / "four.png")):
        live = query.nearest(a, image=asked, site="conv2:full", reader=pixels, k=5)
        stored = query.nearest(a, example=376, site="conv2:full", k=5, include_self=True)
        assert live["example_id"].tolist() == stored["example_id"].tolist()
        np.testing.assert_array_equal(live["density"], stored["density"])
    centre = query.nearest(a, image=image, site="conv1", reader=pixels, radius=0)
    assert 376 in centre["example_id"].tolist()


def test_an_image_is_read_where_it_is_asked(a, pixels):
    image = pixel_images()[4][2]
    for row, column in [(0.0, 0.0), (0.9, 0.4)]:
        view = atlas.network.ImageView(image, row, column)
        code = pixels.read([view], pixels.sites[:1], []).codes["conv1"]
        bits = "".join(map(str, np.unpackbits(code[0], count=3)))
        live = query.nearest(a, image=image, row=row, column=column, site="conv1", reader=pixels, radius=1)
        by_code = query.nearest(a, code=bits, site="conv1", radius=1)
        assert live["example_id"].tolist() == by_code["example_id"].tolist()


def test_several_positions_need_a_choice(tmp_path, pixels):
    for place in (0.5, 0.0):
        add_images(tmp_path / "a", pixels, pixel_images(4), place=(place, place))
    with atlas.open(tmp_path / "a") as a:
        live = {"image": pixel_images()[0][2], "reader": pixels}
        with pytest.raises(UsageError, match="were read at 2 positions; say which one with row and column"):
            query.nearest(a, **live, span="conv1->")
        assert len(query.nearest(a, **live, span="conv1->", row=0.0, column=0.0)) == 8
        assert len(query.nearest(a, **live, span="conv1->:full")) == 8


def test_another_reader_is_refused(a, words):
    other = word_network(seed=5)
    with pytest.raises(WeightsError) as caught:
        query.nearest(a, text="metal1", site="blocks.0.mlp", reader=other)
    assert other.info.weights_digest in str(caught.value) and words.info.weights_digest in str(caught.value)
    differently = word_network()
    differently.info.reading["window"] = 7
    with pytest.raises(WeightsError, match="window 7 instead of 5") as caught:
        query.nearest(a, text="metal1", site="blocks.0.mlp", reader=differently)
    assert str(caught.value).count(words.info.weights_digest) == 2
    short = plane_network()
    short.sites = short.sites[:1]
    with pytest.raises(UnknownName, match="the reader plane has no site out; it has hidden"):
        query.nearest(a, text="1:1", site="out", reader=short)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({}, UsageError, "ask about one of example, text, image, vector or code, got none of them"),
        ({"example": 40, "code": "1"}, UsageError, "got example and code"),
        ({"example": 40, "token": 1}, UsageError, "token is 1, but it belongs to a text and example was given"),
        ({"text": "metal1", "row": 0.5}, UsageError, "row and column belong to an image, but text was given"),
        ({"example": "40"}, UsageError, "an example is named by its id, a whole number, got '40'"),
        ({"example": 4000}, UnknownName, r"no example 4000 in .*three.atlas; ids run from 1 to 383"),
        ({"example": -1}, UnknownName, "no example -1"),
        ({"example": 2**40}, UnknownName, "no example 1099511627776"),
        ({"example": 40, "k": 360}, UsageError, "k is 360; blocks.2.mlp of network words has codes of 359 other"),
        ({"code": "1" * 9, "k": 361}, UsageError, "k is 361; .* has codes of 360 examples: ask for fewer"),
        ({"example": 40, "k": 0}, UsageError, "k is 0; expected a whole number of at least 1"),
        ({"example": 40, "k": 2.5}, UsageError, "k is 2.5"),
        ({"example": 40, "radius": -1}, UsageError, "radius is -1; expected a whole number of at least 0"),
        ({"example": 40, "network": "plane"}, UnknownName, "no site 'blocks.2.mlp' in network plane; it has hidden"),
        ({"example": 3, "network": "words"}, UnknownName, "example 3 was read by network plane, not by words"),
        ({"code": "1" * 8}, WidthError, r"the code has 8 bits; site blocks.2.mlp has 9 gates \(`polytope info`"),
        ({"code": "1" * 8 + "x"}, UsageError, r"a code is written with 0 and 1 only, got \['x'\]"),
        ({"text": "metal1"}, UsageError, r"read by network words itself: load its weights \(tests, by hand\)"),
        ({"text": "metal1", "reader": word_network(), "token": 1}, UsageError, "the text has 1 tokens: give 0 to 0"),
        ({"text": "metal1", "reader": word_network(), "token": -2}, UsageError, "token is -2; the text has 1 tokens"),
        ({"text": "", "reader": word_network()}, UsageError, "the text has no token"),
        ({"text": "metal1", "reader": word_network(), "token": "a"}, UsageError, "a whole number, got 'a'"),
        ({"image": "x.png", "reader": PixelNetwork()}, UsageError, "image was given, but network words reads texts"),
        (
            {"text": "metal1", "site": "conv1", "reader": word_network()},
            UsageError,
            "but network pixels reads images",
        ),
        (
            {"text": "nan:1", "site": "hidden", "reader": plane_network()},
            NonFinite,
            r"token 0 \('nan:1'\) of the text gives NaN or infinity at site hidden",
        ),
        (
            {"example": 40, "clustering": 6},
            UsageError,
            r"clustering 6 .* is of network pixels, but the question is about words",
        ),
        ({"example": 40, "clustering": 99}, UnknownName, r"no clustering 99 in .*; it holds 1, 2, 3, 4, 5, 6"),
        ({"example": 40, "clustering": 0}, UnknownName, "no clustering 0"),
    ],
)
def test_what_nearest_refuses(a, asked, error, message):
    with pytest.raises(error, match=message):
        query.nearest(a, **({"site": "blocks.2.mlp"} | asked))


def test_code_of_another_span_is_refused(a):
    codes = a.codes(a.catalog.target(site="blocks.1.mlp").sites)[1]
    with pytest.raises(WidthError, match=r"has 20 bits; span blocks.1.mlp-> has 40 gates, in parts \(9, 31\)"):
        query.nearest(a, code=codes[:1], span="blocks.1.mlp->")
    with pytest.raises(UsageError, match="one code at a time, got 2"):
        query.nearest(a, code=codes[:2], site="blocks.1.mlp")
    of_span = a.codes(a.catalog.target(span="blocks.1.mlp->").sites, [40])[1]
    found = query.nearest(a, code=of_span, span="blocks.1.mlp->", k=9)
    by_example = query.nearest(a, example=40, span="blocks.1.mlp->", k=9, include_self=True)
    assert found["example_id"].tolist() == by_example["example_id"].tolist()


def test_images_that_cannot_be_read(a, pixels, tmp_path):
    image, broken = pixel_images()[0][2], tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG nothing more")
    for asked, error, message in (
        ({"image": tmp_path / "none.png"}, BadInput, "no image file"),
        ({"image": broken}, BadInput, r"broken.png is no JPEG, PNG, WebP"),
        ({"image": image.convert("RGBA")}, BadInput, "the image has mode RGBA; expected L or RGB"),
        ({"image": image, "row": 1.0, "column": 0.5}, UsageError, r"row is 1.0; expected a number from 0"),
        ({"image": image, "row": 0.5}, UsageError, "row and column are given together"),
    ):
        with pytest.raises(error, match=message):
            query.nearest(a, **asked, site="conv1", reader=pixels)


# --- indexes ---------------------------------------------------------------------------------------------------


def test_a_site_needs_its_index(damaged):
    """A row of it, and the file."""
    path = damaged("delete from indexes where target = 'blocks.2.mlp'")
    with atlas.open(path) as a:
        with pytest.raises(IndexMissing, match=rf"blocks.2.mlp .* `polytope index {path}`"):
            query.nearest(a, example=40, site="blocks.2.mlp")
        (path / "indexes" / a.value("select file from indexes where target = 'hidden'")).unlink()
        with pytest.raises(IndexMissing, match="polytope index"):
            query.nearest(a, example=1, site="hidden")


def test_an_index_of_other_codes_refuses(damaged):
    path = damaged()
    add_texts(path, word_network(), word_texts(63)[60:], indexed=False)
    with atlas.open(path) as a:
        for target in ("blocks.3.mlp", "blocks.0.mlp->"):
            with pytest.raises(IndexMismatch, match=r"built from 360 codes .* holds 378 codes"):
                query.nearest(a, example=40, site=target)
        assert query.nearest(a, example=40, span="blocks.1.mlp->").attrs["n_codes"] == 378  # needs none


def test_codes_that_were_not_ingested(tmp_path):
    path = tmp_path / "a"
    add_images(path, PixelNetwork(), pixel_images(4), sites=["conv1", "conv2"], activations=[])
    add_texts(path, word_network(), word_texts(2), sites=["blocks.1.mlp"])
    with atlas.open(path) as a:
        with pytest.raises(NotStored, match=r"needs the codes of conv2:full, which .*; ingest them with --full"):
            query.nearest(a, example=1, site="conv2:full")
        with pytest.raises(NotStored, match=r"blocks.0.mlp-> .* needs the codes of blocks.2.mlp, blocks.3.mlp"):
            query.nearest(a, example=5, span="blocks.0.mlp->")
    add_texts(path, word_network(), word_texts(4)[2:], sites=["blocks.2.mlp", "blocks.3.mlp"], dataset="more")
    missing = pytest.raises(NotStored, match="no example of network words has a code at every site of span")
    with atlas.open(path) as a, missing:
        query.nearest(a, example=5, span="blocks.0.mlp->")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"site": "blocks.3.mlp", "radius": 3}, "a search within a radius runs on the processor"),
        ({"site": "blocks.3.mlp", "label": "metal"}, r"a search among some of the codes \(a filter\) runs on"),
        ({"span": "blocks.1.mlp->blocks.2.mlp"}, "this span has no index"),
    ],
)
def test_no_gpu_says_why_on_every_route(a, asked, why):
    for device in ("auto", "cpu"):
        assert len(query.nearest(a, example=40, device=device, **asked)) > 0
    for device, message in (("cuda", f"cuda, but {why}"), ("mps", "'mps'; expected auto, cpu or cuda")):
        with pytest.raises(UsageError, match=f"device is {message}"):
            query.nearest(a, example=40, device=device, **asked)


def test_no_gpu_for_an_approximate_index(tmp_path):
    add_texts(tmp_path / "a", word_network(), word_texts(9))
    build_indexes(tmp_path / "a", targets=["blocks.3.mlp"], kind="ivf")
    with atlas.open(tmp_path / "a") as a:
        for ask in (partial(query.nearest, example=40), partial(query.nearest_many, examples=[40])):
            with pytest.raises(UsageError, match="cuda, but an approximate index is searched on the processor"):
                ask(a, site="blocks.3.mlp", k=3, device="cuda")

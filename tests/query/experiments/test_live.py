"""Live experiments on networks that can be worked out on paper, and on the demo's InceptionV1."""

import math
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import atlas
from atlas import hamming
from atlas.errors import NotStored, UnknownName, UsageError, WeightsError
from atlas.network import ImageView, TokenWindow
from ingest.networks import load_control
from query.examples.live import Live, place_of
from query.experiments import affine as affine_module
from query.experiments.affine import map_of
from query.experiments.archive import load, save
from query.experiments.maps import Cotangents, PreciseTails, affine_map, pull_back
from query.experiments.registry import find, run
from query.polytope.crossings import span_codes
from tests.atlases import add_images, add_texts
from tests.networks import plane_network, shipped
from tests.query.experiments.tailed import (
    PLANE_GATES,
    digit_atlas,
    digits,
    plane_reader,
    random_tail,
)

SPAN = "embed->"


@pytest.fixture
def digit(digits_path):
    return digits_path, shipped("demo:inceptionv1")


def ask(plane, name, **options):
    a, ids, reader = plane
    for key in ("a", "b", "c", "example"):
        if isinstance(options.get(key), str):
            options[key] = ids[options[key]]
    return run(a, name, reader=reader, **options)


# --- where to start --------------------------------------------------------------------------------------------


def test_images_run_on_from_whole_tensors(digit):
    """An image network is run on from whole tensors."""
    _path, network = digit
    for name in ("inception5a->", "inception5a->:full", "inception5a:full->inception5b"):
        place = place_of(network, span=name)
        assert place.site.name == "inception5a:full" and [s.name for s in place.sites] == ["inception5b:full"]
    assert place_of(network, site="inception4e").n_gates == place_of(network, span="inception4e->").n_gates
    assert place_of(network, site="inception5b").sites == ()


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"span": "inception9z->"}, UnknownName, "inception9z"),
        ({"site": "inception9z"}, UnknownName, "no site 'inception9z'"),
        ({"span": "inception5a->inception4c"}, UsageError, "must end after"),
        ({"span": "inception5b->"}, UsageError, "holds no site"),
        ({"span": "inception5a"}, UsageError, "is not a span"),
    ],
)
def test_impossible_places_are_refused(digit, asked, error, said):
    with pytest.raises(error, match=said):
        place_of(digit[1], **asked)


def test_stored_and_live_activations_agree(digit):
    """What is stored and what is read live are the same activation."""
    path, network = digit
    with atlas.open(path) as a:
        live = Live(a, network, place_of(network, span="inception5a->"))
        ids = live.choose(5, seed=0)
        assert len(ids) == 5 and (np.diff(ids) > 0).all()
        stored = live.activations(ids)
        live.stored = None
        np.testing.assert_allclose(live.activations(ids), stored, rtol=1e-5, atol=1e-6)


def test_only_whole_images_are_read_again(digit, tmp_path):
    """Only an image kept pixel by pixel is read again."""
    network = shipped("demo:inceptionv1")
    large = [("large.png", "0", Image.fromarray(np.full((200, 150), 80, np.uint8)))]
    digit_atlas(tmp_path / "large.atlas", stored=[], images=[*digits(3), *large])
    with atlas.open(tmp_path / "large.atlas", writable=True) as a:
        # What ingestion keeps of an image of more than 64 pixels.
        a.execute("update inputs set width = 2000, height = 1500 where width = 150")
        live = Live(a, network, place_of(network, span="inception5a->"))
        assert live.stored is None and len(live.activations([1, 2, 3])) == 3
        with pytest.raises(NotStored, match=r"2000 x 1500 pixels only a thumbnail .* --full inception5a --store-act"):
            live.activations([1, 4])


def test_another_network_is_refused(plane):
    """Another network than the atlas was made with is refused."""
    a, _, _ = plane
    with pytest.raises(WeightsError, match="weights"):
        run(a, "interpolate", reader=plane_reader(seed=1), span=SPAN, pairs=2)


# --- interpolate -----------------------------------------------------------------------------------------------


def test_interpolate_as_worked_out_on_paper(plane):
    """From (0, 1) to (6, 1): x > 0 at the start, x = y at 1, x + y = 2 at 1, x + y = 3 at 2."""
    result = ask(plane, "interpolate", span=SPAN, a="0:1", b="6:1", steps=6)
    [row] = result.tables["pairs"].to_dict("records")
    assert row["method"] == "exact" and row["distance"] == 6 and row["crossings"] == row["hamming"] == 4
    assert row["density"] == 4 / 6 and row["detour"] == 1 and row["switches"] == 0
    density = result.table["density"].tolist()
    assert sum(density) == pytest.approx(4) and density[3:] == [0, 0, 0]
    assert result.table["n"].eq(1).all() and result.table["density_low"].isna().all()
    assert any("every crossing is located" in note for note in result.notes)


def test_sampled_crossings_say_so_and_agree(plane):
    exact = ask(plane, "interpolate", span=SPAN, pairs=6, method="exact")
    sampled = ask(plane, "interpolate", span=SPAN, pairs=6, method="sampled", tolerance=0)
    both = ["a", "b", "crossings", "hamming"]
    pd.testing.assert_frame_equal(exact.tables["pairs"][both], sampled.tables["pairs"][both])
    assert any("lower bounds" in note for note in sampled.notes)
    assert not any("lower bounds" in note for note in exact.notes)


def test_crossings_are_at_least_hamming(plane, digit):
    """Crossings are never fewer than the hamming distance of the ends."""
    results = [ask(plane, "interpolate", span=SPAN, pairs=8)]
    path, network = digit
    with atlas.open(path) as a:
        for method in ("sampled", "exact"):
            results.append(run(a, "interpolate", reader=network, span="inception5a->", pairs=3, method=method))
    for result in results:
        pairs = result.tables["pairs"]
        assert (pairs["crossings"] >= pairs["hamming"]).all() and pairs["hamming"].max() > 0


def test_hamming_of_ends_is_the_stored_one(digit):
    """Hamming of the ends is that of the stored codes."""
    path, network = digit
    with atlas.open(path) as a:
        result = run(a, "interpolate", reader=network, span="inception5a->", pairs=4)
        target = a.catalog.target(span="inception5a->:full")
        for row in result.tables["pairs"].to_dict("records"):
            _, codes = a.codes(target.sites, [row["a"], row["b"]])
            assert abs(row["hamming"] - int(hamming(codes[:1], codes[1:])[0])) <= 1


def test_label_pairs_are_averaged_apart(plane):
    """Pairs of the same and of different labels are averaged apart."""
    result = ask(plane, "interpolate", span=SPAN, pairs=20, steps=5)
    pairs = result.tables["pairs"]
    assert (pairs.loc[pairs["kind"] == "same", "label_a"] == pairs.loc[pairs["kind"] == "same", "label_b"]).all()
    other = pairs[pairs["kind"] == "different"]
    assert (other["label_a"] != other["label_b"]).all()
    for kind, rows in pairs.groupby("kind"):
        summary = result.tables["summary"].set_index("kind").loc[kind]
        assert summary["density"] == pytest.approx(rows["density"].mean())
        assert summary["density_low"] < summary["density"] < summary["density_high"]
        profile = result.table[result.table["kind"] == kind]
        assert profile["density"].mean() == pytest.approx(rows["density"].mean())  # steps are equally long
    ratio = result.tables["summary"].set_index("kind")["ratio"]
    means = pairs.groupby("kind")["density"].mean()
    assert ratio["different"] == pytest.approx(means["different"] / means["same"]) and math.isnan(ratio["same"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"a": "1:1", "b": "1:1"}, UsageError, "both example"),
        ({"a": "1:1"}, UsageError, "or neither"),
        ({"pairs": 0}, UsageError, "nothing to do"),
        ({"steps": 0}, UsageError, "steps is 0"),
        ({"method": "guess"}, UsageError, "auto, exact, sampled"),
        ({"tolerance": 1.5}, UsageError, "tolerance is 1.5"),
        ({"a": 9999, "b": 1}, UnknownName, "no example 9999"),
        ({"span": "out->"}, UsageError, "holds no site"),
        ({"span": "nowhere->"}, UnknownName, "no site 'nowhere'"),
        ({"span": "out->hidden"}, UsageError, "must end after"),
    ],
)
def test_interpolate_refuses_the_impossible(plane, options, error, message):
    """Interpolate refuses impossible questions."""
    with pytest.raises(error, match=message):
        ask(plane, "interpolate", **{"span": SPAN, **options})


# --- scale -----------------------------------------------------------------------------------------------------


def test_scale_as_worked_out_on_paper(plane):
    """Along α·(2, 1): x + y = 2 at α = 2/3, x + y = 3 at α = 1; x, y and x > y at the origin alone, not counted.
    Logits x − y and (x + y − 2)⁺ − 1 are α and (3α − 2)⁺ − 1: the second is larger from α = 3/2 on."""
    result = ask(plane, "scale", span=SPAN, example="2:1", alphas=[0, 0.5, 0.9, 1.2, 1.4, 1.6, 2.5])
    rows = result.table[result.table["kind"] == "activation"]
    expected = np.array([0, 1, 1, 0, 0, 0]) / np.diff([0, 0.5, 0.9, 1.2, 1.4, 1.6, 2.5])
    np.testing.assert_allclose(rows["share"], expected / PLANE_GATES, rtol=1e-5)
    np.testing.assert_allclose(rows["density"], expected / np.sqrt(5), rtol=1e-5)
    [one] = result.tables["examples"].query("kind == 'activation'").to_dict("records")
    assert one["peak"] == pytest.approx(1.05) and one["crossings"] == 2 and one["prediction"] == "left"
    assert math.isnan(one["changes_below"]) and one["changes_above"] == 1.6
    kept = result.tables["classes"].query("kind == 'activation'").set_index("alpha")["kept"]
    for alpha in (0.5, 1.0, 2.5):
        logits = np.array([alpha, max(3 * alpha - 2, 0) - 1])
        assert kept[alpha] == pytest.approx(np.exp(logits[0]) / np.exp(logits).sum(), rel=1e-5)


def test_the_gaussian_has_the_same_norm(plane):
    """The gaussian baseline has the same norm."""
    result = ask(plane, "scale", span=SPAN, examples=6)
    norms = result.tables["examples"].pivot(index="example", columns="kind", values="norm")
    np.testing.assert_allclose(norms["gaussian"], norms["activation"], rtol=1e-6)
    assert not np.allclose(*(result.table[result.table["kind"] == k]["share"] for k in ("activation", "gaussian")))


def test_no_offsets_no_crossings(plane):
    """All of its boundaries pass through the origin."""
    result = ask(plane, "scale", span=SPAN, examples=5, controls={"random-raw": plane_reader(seed=3)})
    assert result.tables["examples"].query("kind == 'random-raw'")["crossings"].eq(0).all()
    assert result.tables["examples"].query("kind == 'activation'")["crossings"].max() > 0
    summary = result.tables["summary"].set_index("kind")
    assert math.isnan(summary.loc["random-raw", "peak"]) and summary.loc["random-raw", "below"] == 0
    assert any("controls:" in note for note in result.notes)


def test_controls_read_the_same_inputs(plane):
    """Controls read the same inputs with their own weights."""
    a, ids, reader = plane
    live = Live(a, reader, place_of(reader, span="hidden->"))
    beside = live.beside(plane_reader("control", seed=3))
    some = [ids["2:3"], ids["5:1"]]
    expected = np.maximum(np.array([[2, 3], [5, 1]]) @ plane_reader(seed=3).layers[1][1].T, 0)
    np.testing.assert_allclose(beside.activations(some), expected, rtol=1e-6)
    assert not np.allclose(live.activations(some), expected)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Digits of which the atlas keeps no more than a thumbnail, read by the demo's network, and the same images read
    by an untrained one in another order and at two positions."""
    path, trained = tmp_path_factory.mktemp("photos") / "photos.atlas", shipped("demo:inceptionv1")
    control, images = load_control(trained, "random-raw:0", "cpu"), digits(8)
    options = {"sites": ["inception5a:full", "inception5b:full"], "activations": ["inception5a:full"]}
    add_images(path, trained, images, **options)
    add_images(path, control, images[::-1], place=(0.25, 0.25), **options)
    add_images(path, control, images[2:5], **options)
    with atlas.open(path, writable=True) as a:
        a.execute("update inputs set width = 2000, height = 1500")
    return path, trained, control, images


@pytest.mark.slow
def test_photos_controls_use_what_is_stored(photos):
    """A control of photos has the activations that were ingested with it."""
    path, trained, control, images = photos
    with atlas.open(path) as a:
        live = Live(a, trained, place_of(trained, span="inception5a->"))
        expected = control.read([ImageView(images[i][2]) for i in (6, 0, 3)], [], [live.place.site])
        beside = live.beside(control)
        found = beside.activations([7, 1, 4])
        np.testing.assert_allclose(found, expected.activations[live.place.site.name], rtol=1e-5, atol=1e-12)
        result = run(
            a,
            "scale",
            reader=trained,
            span="inception5a->",
            examples=3,
            alphas=[0, 1, 2],
            controls={"random-raw": control},
        )
    assert set(result.table["kind"]) == {"activation", "gaussian", "random-raw"}
    norms = result.tables["examples"].set_index(["kind", "example"])["norm"]
    for example in norms["random-raw"].index:
        row = control.read([ImageView(images[example - 1][2])], [], [live.place.site]).activations["inception5a:full"]
        assert norms["random-raw", example] == pytest.approx(np.linalg.norm(row.astype(float)), rel=1e-5)


def test_unreadable_controls_are_refused(photos):
    """A control that cannot be read is refused before anything is measured."""
    path, trained, _, _ = photos
    told = []
    with atlas.open(path) as a, pytest.raises(NotStored, match="with --weights random-raw:1 --full inception5a"):
        run(
            a,
            "scale",
            reader=trained,
            span="inception5a->",
            examples=3,
            alphas=[0, 1, 2],
            controls={"random-raw": load_control(trained, "random-raw:1", "cpu")},
            progress=lambda done, total: told.append(done),
        )
    assert not told


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alphas": [0, float("nan"), 2]}, "finite"),
        ({"alphas": [0, 1, float("inf")]}, "finite"),
        ({"alphas": []}, "at least 2"),
        ({"alphas": "0,1"}, "list of numbers"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "from 0 to 4294967295"),
        ({"tolerance": float("nan")}, "tolerance is nan"),
        ({"alphas": [0, 1, 1]}, "increasing"),
        ({"alphas": [1]}, "at least 2"),
        ({"alphas": [-1, 2]}, "below 0"),
        ({"alphas": [0, 0.5]}, "must lie among them"),
        ({"examples": 0}, "examples is 0"),
        ({"tolerance": -1}, "tolerance"),
    ],
)
def test_scale_refuses_impossible_questions(plane, options, message):
    with pytest.raises(UsageError, match=message):
        ask(plane, "scale", span=SPAN, **options)


# --- affine ----------------------------------------------------------------------------------------------------


def test_affine_maps_as_on_paper(plane):
    """F = (x − y, (x + y − 2)⁺ − 1) where x, y > 0."""
    _, _, reader = plane
    tail = reader.tail(reader.sites[0], TokenWindow(np.array([0]), np.array([0]))).precise()
    for point, slope, offset in (
        ((3, 1), [[1, -1], [1, 1]], [0, -3]),
        ((0.5, 0.25), [[1, -1], [0, 0]], [0, -1]),
        ((-1, 2), [[0, -1], [0, 0]], [0, -1]),
    ):
        found = affine_map(tail, np.array(point, np.float32))
        np.testing.assert_allclose(found[0], slope, atol=1e-12)
        np.testing.assert_allclose(found[1], offset, atol=1e-12)


def test_a_map_is_a_table_and_arrays(plane, tmp_path):
    """At (3, 1): F = (x − y, x + y − 3)."""
    result = ask(plane, "affine", site="embed", example="3:1", examples=4)
    rows = result.tables["map"].to_dict("records")
    assert [row["name"] for row in rows] == ["left", "right"]
    assert {row["example"] for row in rows} == {plane[1]["3:1"]}
    assert [row["b"] for row in rows] == pytest.approx([0, -3])
    assert [row["logit"] for row in rows] == pytest.approx([2, 1])
    assert [row["norm"] for row in rows] == pytest.approx([np.sqrt(2)] * 2)
    assert [row["units"] for row in rows] == [[0, 1], [0, 1]]
    assert rows[0]["weights"] == pytest.approx([1, -1]) and rows[1]["weights"] == pytest.approx([1, 1])
    with atlas.open(shutil.copytree(plane[0].path, tmp_path / "copy.atlas"), writable=True) as a:
        pd.testing.assert_frame_equal(load(a, save(a, result)).tables["map"], result.tables["map"])
        found = map_of(a, plane[2], site="embed", example=plane[1]["3:1"])
        arrays = find("affine").arrays(a, plane[2], result)
    np.testing.assert_allclose(found(np.array([[3, 1], [4, 2.5]])), [[2, 1], [1.5, 3.5]], atol=1e-12)
    np.testing.assert_allclose(arrays["A"] @ arrays["x"] + arrays["b"], [2, 1], atol=1e-12)
    assert arrays["outputs"].tolist() == ["left", "right"]
    assert find("scale").arrays is None


def test_a_x_plus_b_is_the_forward_pass(digit):
    """Of the network itself, from pixels to class probabilities, a little brighter activations included."""
    path, network = digit
    with atlas.open(path) as a:
        found = map_of(a, network, site="inception5a", example=3)
        table = run(a, "affine", reader=network, site="inception5a", example=3, examples=2).tables["map"]
    reading = network.read([ImageView(digits(3)[2][2])], [], [])
    logits = found(found.point[None])[0]
    assert found.outputs[logits.argmax()] == reading.prediction[0]
    shares = np.exp(logits - logits.max())
    assert shares.max() / shares.sum() == pytest.approx(float(reading.probability[0]), rel=1e-4)
    # Scaled by so little no gate flips, and the change is that of A alone.
    [site] = [site for site in network.sites if site.name == "inception5a:full"]
    there = (1 + 1e-6) * found.point
    value = network.tail(site).precise().logits(torch.from_numpy(there[None])).detach().numpy()[0]
    assert np.abs(value - found(there[None])[0]).max() < 1e-6 * np.abs(value - logits).max()
    np.testing.assert_allclose(table["b"], found.offset, atol=1e-9)
    np.testing.assert_allclose(table["norm"], np.linalg.norm(found.slope, axis=1))
    for row in table.itertuples():
        assert np.abs(found.slope[row.output]).max() == pytest.approx(abs(row.weights[0]))
        np.testing.assert_allclose(found.slope[row.output, row.units], row.weights)


def test_a_huge_map_shows_likely_outputs(plane, monkeypatch):
    """Of a map too large to hold the likeliest outputs are shown."""
    monkeypatch.setattr(affine_module, "MAP_BYTES", 8)
    monkeypatch.setattr(affine_module, "LIKELIEST", 1)
    result = ask(plane, "affine", site="embed", example="1:6", examples=3)
    assert result.tables["map"]["name"].tolist() == ["right"] and result.tables["singular"].empty
    assert any("its rows of the 1 likeliest" in note for note in result.notes)


def test_distance_of_maps_as_on_paper(plane):
    """x + y > 2 or not: the maps differ in one row (1, 1), whose length is √2; else not at all."""
    result = ask(plane, "affine", site="embed", examples=30, checks=30)
    _path, ids, _ = plane
    word = {example: tuple(map(int, word.split(":"))) for word, example in ids.items()}
    inside = result.table[
        [min(*word[a], *word[b]) > 0 for a, b in zip(result.table["a"], result.table["b"], strict=True)]
    ]
    assert len(inside) > 20
    for row in inside.itertuples():
        differ = (sum(word[row.a]) > 2) != (sum(word[row.b]) > 2)
        assert row.frobenius == pytest.approx(np.sqrt(2) if differ else 0, abs=1e-9)
    checks = result.tables["checks"]
    assert checks["same_polytope"].any()
    assert checks.loc[checks["same_polytope"], "relative"].max() < 1e-14
    assert result.tables["singular"]["value"].is_monotonic_decreasing


@pytest.fixture(scope="module")
def activations_of_all_blocks():
    network = shipped("demo:inceptionv1")
    full = [site for site in network.sites if site.scope == "full"]
    return network, network.read([ImageView(digits(1)[0][2])], [], full).activations


@pytest.mark.parametrize("number", [0, 2, 4, 9, 11])
def test_a_x_plus_b_holds_behind_blocks(activations_of_all_blocks, number):
    """At a point of the same polytope, pooling switches included; and not at one with other gates. Behind the first
    and the last block, and behind each that a pooling between blocks follows."""
    network, activations = activations_of_all_blocks
    site = [site for site in network.sites if site.scope == "full"][number]
    rng = np.random.default_rng(number)
    tail, point = network.tail(site).precise(), activations[site.name][0].astype(float)
    # Blank parts of the image are equal, and so lie on the edge between what a pooling window may take.
    point += 1e-4 * rng.uniform(-1, 1, len(point)) * point
    slope, offset = affine_map(tail, point)
    assert slope.shape == (10, site.n_units)

    def state(at):
        reading = tail.read(torch.from_numpy(at[None]), tail.later, switches=True)
        return [*(reading.codes[s.name].tobytes() for s in tail.later), reading.switches.tobytes()]

    direction = rng.uniform(-1, 1, len(point)) * point
    radius = next(r for r in 2.0 ** -np.arange(1, 30) if state(point + r * direction) == state(point))
    there = point + radius * direction
    value = tail.logits(torch.from_numpy(there[None])).detach().numpy()[0]
    error = np.linalg.norm(value - (slope @ there + offset))
    start = slope @ point + offset
    assert error < 1e-12 * np.linalg.norm(value) and error < 1e-6 * np.linalg.norm(value - start)
    if tail.later:
        far = 1.5 * point
        assert state(far) != state(point)
        beyond = tail.logits(torch.from_numpy(far[None])).detach().numpy()[0]
        assert np.linalg.norm(beyond - (slope @ far + offset)) > 1e-6 * np.linalg.norm(beyond)


def test_distance_estimates_are_unbiased():
    """The estimate of a distance is unbiased."""
    tail, _ = random_tail(0, sizes=(6, 20, 20, 8))
    a, b = np.random.default_rng(1).standard_normal((2, 6)).astype(np.float32)
    exact = np.linalg.norm(affine_map(tail, a)[0] - affine_map(tail, b)[0])
    probes = np.random.default_rng(0).standard_normal((20_000, 8))
    pulled = pull_back(tail, a, probes) - pull_back(tail, b, probes)
    squares = np.square(pulled).sum(axis=1)
    assert squares.mean() == pytest.approx(exact**2, abs=4 * squares.std() / np.sqrt(len(probes)))


def test_cotangent_pieces_are_unit_vectors():
    """Cotangents in pieces are the unit vectors."""
    units = Cotangents(None, 5)
    np.testing.assert_array_equal(np.concatenate([units.some(0, 2), units.some(2, 5)]), np.eye(5))


def test_affine_is_inceptionv1_itself(digit):
    """Affine of inceptionv1 shows that it is the network."""
    path, network = digit
    with atlas.open(path) as a:
        result = run(a, "affine", reader=network, site="inception5a", examples=5, checks=5)
        checks, target = result.tables["checks"], a.catalog.target(span="inception5a->:full")
        assert checks.loc[checks["same_polytope"], "of_change"].max() < 1e-7  # with A of another polytope: far more
        assert checks.loc[~checks["same_polytope"], "of_change"].max() > 1e-6
        for row in result.table.to_dict("records"):
            _, codes = a.codes(target.sites, [row["a"], row["b"]])
            assert abs(row["hamming"] - int(hamming(codes[:1], codes[1:])[0])) <= 1
    slope, _ = affine_map(
        network.tail(place_of(network, site="inception5a").site).precise(), np.zeros(832, np.float32)
    )
    assert slope.shape == (10, 832)
    assert len(result.tables["singular"]) == 10 and result.parameters["exact_distance"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"examples": 1}, "examples is 1"),
        ({"probes": 0}, "probes is 0"),
        ({"checks": 0}, "checks is 0"),
    ],
)
def test_affine_refuses_impossible_questions(plane, options, message):
    with pytest.raises(UsageError, match=message):
        ask(plane, "affine", site="embed", **options)


# --- all of them -----------------------------------------------------------------------------------------------

QUESTIONS = {
    "interpolate": {"span": SPAN, "pairs": 6, "steps": 5},
    "scale": {"span": SPAN, "examples": 4},
    "affine": {"site": "embed", "examples": 6, "checks": 4},
    "slice": {"span": SPAN, "a": "1:1", "b": "5:2", "c": "2:6", "size": 24, "lines": 4},
}


@pytest.fixture(scope="module")
def told():
    """What each experiment has told of its progress, run by run: (done, total)."""
    return {name: [] for name in QUESTIONS}


@pytest.fixture(scope="module")
def answers(plane, told):
    return {
        name: [
            ask(plane, name, seed=seed, progress=lambda *now, to=told[name]: to.append(now), **asked)
            for seed in (0, 0, 1)
        ]
        for name, asked in QUESTIONS.items()
    }


@pytest.fixture(scope="module")
def figures(answers):
    """Of the first result of each, drawn once to be looked at."""
    return {name: first.figure() for name, (first, *_) in answers.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", QUESTIONS)
def test_the_seed_decides_the_numbers(answers, name):
    """The same seed gives the same numbers and another seed others."""
    first, again, other = answers[name]
    assert first.parameters == again.parameters
    for table in first.tables:
        pd.testing.assert_frame_equal(first.tables[table], again.tables[table])
    assert any(not first.tables[t].equals(other.tables[t]) for t in first.tables)


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_stored_result_draws_the_same(plane, answers, figures, name, tmp_path):
    """A stored result draws the same figure."""
    result = answers[name][0]
    with atlas.open(shutil.copytree(plane[0].path, tmp_path / "copy.atlas"), writable=True) as a:
        again = load(a, save(a, result))
    assert again.figure().to_json() == figures[name].to_json()
    assert again.notes == result.notes and again.parameters == result.parameters


@pytest.mark.parametrize("name", QUESTIONS)
def test_figures_say_n_and_name_their_axes(figures, name):
    figure = figures[name]
    axes = [value for key, value in figure.to_dict()["layout"].items() if key.startswith(("xaxis", "yaxis"))]
    assert axes and all(axis["title"]["text"] for axis in axes if not axis.get("matches"))
    words = figure.to_json()
    assert "n = " in words or "pairs of" in words or "points" in words


@pytest.mark.parametrize("name", QUESTIONS)
def test_progress_reaches_its_end(answers, told, name):
    done, total = told[name][-1]
    assert len(answers[name]) == 3 and done == total
    assert all(0 <= done <= total for done, total in told[name])


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Four points, read by a network that cannot be run on."""
    path = tmp_path_factory.mktemp("plain") / "plain.atlas"
    add_texts(path, plane_network(), [("a", "x", "1:1 2:2 3:3 4:5")], per_sequence=4)
    return path


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_network_without_tail_is_refused(name, plain):
    with atlas.open(plain) as a:
        options = {k: {"a": 1, "b": 2, "c": 4}.get(k, v) for k, v in QUESTIONS[name].items()}
        options |= {k: v.replace("embed", "hidden") for k, v in options.items() if isinstance(v, str)}
        with pytest.raises(UsageError, match="can't be run onward"):
            find(name).run(a, reader=plane_network(), **options)


def test_tail_and_atlas_codes_agree(plane):
    """Codes of a tail and of the atlas agree."""
    a, ids, reader = plane
    live = Live(a, reader, place_of(reader, span=SPAN))
    for word in ("1:1", "0:4", "5:2", "2:1"):
        example = ids[word]
        reading = live.tail(example).read(torch.from_numpy(live.activations([example])), live.place.sites)
        _, stored = a.codes(a.catalog.target(span=SPAN).sites, [example])
        assert span_codes(reading, live.place.sites).packed.tolist() == stored.packed.tolist()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("interpolate", {"span": SPAN}),
        ("scale", {"span": SPAN}),
        ("slice", {"span": SPAN}),
        ("affine", {"site": "out"}),
        ("adversarial", {"span": SPAN}),
        ("soft", {}),
        ("layernorm", {}),
        ("intervene", {"site": "out", "cluster": 0}),
    ],
)
@pytest.mark.parametrize("seed", [-1, 1.5, 2**32])
def test_a_seed_beyond_range_is_refused(plane, name, options, seed):
    """A seed that no generator takes is refused."""
    with pytest.raises(UsageError, match=f"seed is {seed}; expected a whole number from 0 to 4294967295"):
        ask(plane, name, seed=seed, **options)


@pytest.mark.usefixtures("unchecked")
def test_the_precise_tail_is_the_examples(plane):
    """Tails of a language model come and go, and a new one may lie where an old one lay in memory."""
    reader = plane[2]

    class Stub:
        def tail(self, example):
            return reader.tail(reader.sites[0], TokenWindow(np.array([example]), np.array([0])))

    tails = PreciseTails(Stub())
    seen = []
    for example in range(30):
        seen.append(tails.of(example))
        assert seen[-1].dtype == torch.float64
    assert len({id(tail) for tail in seen}) == 30

"""Density of pairs, and within and between classes, against direct computations."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binom, norm
from scipy.stats import t as student

import atlas
import query
from atlas.errors import NotStored, UnknownName, UsageError
from query.pairs.class_density import _intervals, _measure, _Pairs, draw_different, draw_same, lone_labels
from query.pairs.density import exactness
from query.statistics import disjoint_pairs, permutation_p
from tests.atlases import add_images, add_texts
from tests.networks import PixelNetwork, pixel_images, plane_network, word_network, word_texts

# --- a pair ----------------------------------------------------------------------------------------------------


def test_a_pair_in_the_plane(a):
    """5:-1 and 1:3 at hidden: (5, 0, 2) and (1, 3, 2), at distance 5; out: 11 and 01, one boundary."""
    ids = dict(a.rows("select token, example_id from examples where network_id = 1"))
    found = query.density(a, ids["5:-1"], ids["1:3"], site="out")
    assert (found.hamming, found.distance, found.density, found.n_gates) == (1, 5.0, 0.2, 2)
    assert found.density_per_gate == 0.1 and found.exact
    assert query.density(a, ids["5:-1"], ids["1:3"], span="hidden->").density == 0.2
    of_images = query.density(a, 372, 373, site="conv2:full")
    assert (of_images.n_gates, of_images.exact) == (18, True)


@pytest.mark.parametrize("span", ["blocks.0.mlp->blocks.1.mlp", "blocks.0.mlp->", "blocks.2.mlp->"])
def test_a_pair_equals_numpy_and_the_macro(a, span):
    target = a.catalog.target(span=span)
    for x, y in [(40, 50), (12, 371), (300, 100)]:
        found = query.density(a, x, y, span=span)
        gates = a.codes(target.sites, [x, y])[1].unpack()
        points = a.activations(target.before, [x, y])[1].astype(np.float64)
        direct = (gates[0] != gates[1]).sum() / np.linalg.norm(points[0] - points[1])
        assert found.density == pytest.approx(direct, rel=1e-12)
        assert found.density_per_gate == pytest.approx(direct / target.n_gates, rel=1e-12)
        by_sql = a.sql(
            """
            select sum(polytope_density(cx.code, cy.code, ax.activation, ay.activation)) as density
            from codes as cx
            join codes as cy using (site_id)
            join activations as ax on ax.example_id = cx.example_id and ax.site_id = $3
            join activations as ay on ay.example_id = cy.example_id and ay.site_id = $3
            where cx.example_id = $1 and cy.example_id = $2 and cx.site_id in (select unnest($4))
            """,
            [x, y, target.before.site_id, [site.site_id for site in target.sites]],
        )
        assert found.density == pytest.approx(by_sql["density"][0], rel=1e-12)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("x", "y", "asked", "error", "message"),
    [
        (40, 40, {"site": "blocks.2.mlp"}, UsageError, "the density of examples 40 and 40 is undefined"),
        (40, 50, {"site": "blocks.0.mlp"}, UsageError, "blocks.0.mlp is the first site of network words"),
        (372, 373, {"site": "conv2"}, UsageError, "ask for conv2:full, ingested with --full conv1"),
        (372, 373, {"span": "conv1->"}, UsageError, "has position codes; density needs full codes"),
        (40, 9999, {"site": "blocks.2.mlp"}, UnknownName, "no example 9999"),
        (40, 372, {"site": "blocks.2.mlp"}, UnknownName, "example 372 was read by network pixels, not by words"),
        (40, "x", {"site": "blocks.2.mlp"}, UsageError, "a whole number, got 'x'"),
        (40, 50, {}, UsageError, "name a site or a span"),
    ],
)
def test_pairs_that_are_refused(a, x, y, asked, error, message):
    with pytest.raises(error, match=message):
        query.density(a, x, y, **asked)


def test_pairs_of_equal_activation(a):
    same = a.rows(
        "select min(example_id), max(example_id) from activations where site_id = 4 "
        "group by activation having count(*) > 1 order by all limit 1"
    )[0]
    with pytest.raises(UsageError, match=r"their activations at blocks.1.mlp are equal, at distance 0"):
        query.density(a, *same, site="blocks.2.mlp")


def test_activations_that_were_not_ingested(tmp_path):
    add_texts(tmp_path / "a", word_network(), word_texts(4), activations=[])
    with atlas.open(tmp_path / "a") as a:
        with pytest.raises(NotStored, match="none are stored; ingest with --store-activations"):
            query.density(a, 1, 2, site="blocks.2.mlp")
        with pytest.raises(NotStored, match="no site of network words has stored activations"):
            query.class_density(a)
    add_images(tmp_path / "a", PixelNetwork(), pixel_images(4), sites=["conv1", "conv2"], activations=["conv1"])
    with atlas.open(tmp_path / "a") as a:
        with pytest.raises(
            NotStored, match="needs the codes of conv2:full, which were not ingested; ingest them with --full"
        ):
            query.density(a, 25, 26, site="conv2:full")
        with pytest.raises(NotStored, match="full sites; ingest all full sites with --full and --store-activations"):
            query.class_density(a, network="pixels")


# --- classes ---------------------------------------------------------------------------------------------------


def all_pairs(a, span):
    """Density of every pair of labelled examples of different inputs: (same label, density), one by one."""
    target = a.catalog.target(span=span)
    rows = a.rows(
        "select example_id, label, input_id from examples where network_id = $1 and label is not null order by all",
        [target.network.network_id],
    )
    gates = a.codes(target.sites, [row[0] for row in rows])[1].unpack()
    points = a.activations(target.before, [row[0] for row in rows])[1].astype(np.float64)
    pairs = [(i, j) for i, j in combinations(range(len(rows)), 2) if rows[i][2] != rows[j][2]]
    same = np.array([rows[i][1] == rows[j][1] for i, j in pairs])
    crossed = np.array([(gates[i] != gates[j]).sum() for i, j in pairs])
    distance = np.array([np.linalg.norm(points[i] - points[j]) for i, j in pairs])
    apart = distance > 0
    return same[apart], crossed[apart] / distance[apart], int((~apart).sum())


def test_all_pairs_equal_brute_force(tmp_path):
    add_texts(tmp_path / "a", word_network(), word_texts(20))
    with atlas.open(tmp_path / "a") as a:
        found = query.class_density(a, spans=["blocks.1.mlp->"], pairs=10**6, resamples=20).iloc[0]
        same, density, dropped = all_pairs(a, "blocks.1.mlp->")
    intra, inter = density[same], density[~same]
    assert (found["n_intra"], found["n_inter"], found["dropped"]) == (len(intra), len(inter), dropped)
    assert (found["n_examples"], found["n_unlabelled"], found["n_gates"]) == (19 * 6, 6, 40)
    expected = {
        "intra_mean": intra.mean(),
        "inter_mean": inter.mean(),
        "ratio": inter.mean() / intra.mean(),
        "intra_per_gate": intra.mean() / 40,
        "inter_per_gate": inter.mean() / 40,
        "auc": np.mean((inter[:, None] > intra) + 0.5 * (inter[:, None] == intra)),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-9), name
    assert found["intra_low"] <= found["intra_mean"] <= found["intra_high"]
    assert not found["exact"]


@pytest.mark.parametrize(
    ("kind", "act", "said"),
    [
        ("text", "relu", "attention and normalisation"),
        ("image", "relu", "of one position"),
        ("text", "gelu", "signs of gelu"),
    ],
)
def test_inexactness_has_its_own_reason(a, kind, act, said):
    target = a.catalog.target(site="out")
    sites = tuple(replace(site, exact=False, nonlinearity=act) for site in target.sites)
    assert said in exactness(replace(target, network=replace(target.network, kind=kind), sites=sites))


def test_planted_effect_is_found(tmp_path):
    """In the plane, out's first gate is on for one label and off for the other: no boundary within, one between."""
    points = {"right": "4:1 5:1 5:2 4:0 5:0 3:0", "left": "1:4 1:5 2:5 0:4 0:5 1:3"}
    texts = [(f"{label}/{i}", label, word) for label, of in points.items() for i, word in enumerate(of.split())]
    add_texts(tmp_path / "a", plane_network(), texts, per_sequence=1)
    with atlas.open(tmp_path / "a") as a:
        same, density, _ = all_pairs(a, "hidden->")
        found = query.class_density(a, resamples=500)
    assert found["span"].tolist() == ["hidden->"]
    row = found.iloc[0]
    assert (row["n_intra"], row["n_inter"]) == (30, 36)
    assert row["intra_mean"] == pytest.approx(density[same].mean())
    assert row["inter_mean"] == pytest.approx(density[~same].mean())
    assert (density[same] > 0).mean() < 0.5
    assert row["n_permuted"] == 6  # 12 texts, each in one pair: three of a kind, too few for a small p
    assert row["p_value"] >= 2 / 20 - 0.05 and row["auc"] > 0.8 and row["cohens_d"] > 1
    assert row["ratio_low"] > 1


def test_labels_without_meaning_show_none(tmp_path):
    """One test in twenty rejects: labels are drawn anew forty times, by text."""
    p, ratios = [], []
    add_texts(tmp_path / "a", word_network(), word_texts(60))
    with atlas.open(tmp_path / "a", writable=True) as a:
        for trial in range(40):
            labels = np.random.default_rng(trial).integers(3, size=60).astype(str).tolist()
            a.execute("update examples set label = list_extract($1, input_id)", [labels])
            found = query.class_density(a, spans=["blocks.0.mlp->"], pairs=150, resamples=99, seed=trial).iloc[0]
            p.append(found["p_value"])
            ratios.append(found["ratio_low"] < 1 < found["ratio_high"])
    rejected = int((np.array(p) <= 0.05).sum())
    assert rejected <= binom.ppf(0.999, 40, 0.05)
    assert np.mean(ratios) > 0.9


def test_disjoint_pairs_are_exchangeable():
    """Flags of pairs that share an input can't be permuted, those of pairs that share none can.

    Densities of 400 data sets of 60 texts with 4 tokens each, labels without meaning: the text adds as much to a
    density as the token does. A twentieth of the tests may reject; of all pairs, which share texts, far more do. With
    an effect of two standard deviations nearly all reject.
    """
    texts = np.repeat(np.arange(60), 4)
    rejected = {"disjoint": 0, "all": 0, "effect": 0}
    for trial in range(400):
        rng = np.random.default_rng(trial)
        labels = rng.choice(5, p=[0.5, 0.2, 0.1, 0.1, 0.1], size=60)[texts]
        value = rng.normal(size=60)[texts] + rng.normal(size=240)
        kinds = [draw(labels, texts, 200, rng) for draw in (draw_same, draw_different)]
        first, second = (np.concatenate(sides) for sides in zip(*kinds, strict=True))
        same, density = np.arange(400) < 200, value[first] + value[second]
        chosen = disjoint_pairs(np.column_stack([texts[first], texts[second]]), same, rng)
        assert len(np.unique(texts[[first[chosen], second[chosen]]])) == 2 * len(chosen)
        for name, places in (("disjoint", chosen), ("all", np.arange(400)), ("effect", chosen)):
            of, kind = density[places] - (name == "effect") * 4 * same[places], same[places]
            rejected[name] += permutation_p(of[kind], of[~kind], 99, rng) <= 0.05
    assert binom.ppf(0.001, 400, 0.05) <= rejected["disjoint"] <= binom.ppf(0.999, 400, 0.05)
    assert rejected["all"] > binom.ppf(0.999, 400, 0.1) and rejected["effect"] > 380


def test_progress_of_spans_may_stop_them(a):
    told = []
    query.class_density(a, network="words", pairs=20, resamples=5, progress=lambda *at: told.append(at))
    shares = [done / total for done, total in told]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1
    assert {1 / 3, 2 / 3} <= set(shares)  # three spans

    def stop(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        query.class_density(a, network="words", pairs=20, resamples=5, progress=stop)


def test_labels_of_one_input_are_counted(damaged):
    path = damaged(
        "update examples set label = 'lone' where input_id = (select min(input_id) from examples "
        "where network_id = 2 and label is not null)"
    )
    with atlas.open(path) as a:
        found = query.class_density(a, network="words", spans=["blocks.0.mlp->"], pairs=100, resamples=5)
    assert found["n_lone"].tolist() == [1]
    labels, inputs = np.array([0, 0, 1, 1, 2]), np.array([1, 1, 2, 3, 4])
    assert lone_labels(labels, inputs) == 2 and lone_labels(labels[:0], inputs[:0]) == 0


def test_default_spans_and_the_same_seed(a):
    first = query.class_density(a, network="words", pairs=100, resamples=50, seed=3)
    assert first["span"].tolist() == ["blocks.0.mlp->", "blocks.1.mlp->", "blocks.2.mlp->"]
    assert first["n_gates"].tolist() == [60, 40, 31]
    assert first.equals(query.class_density(a, network="words", pairs=100, resamples=50, seed=3))
    assert not first.equals(query.class_density(a, network="words", pairs=100, resamples=50, seed=4))
    assert first.attrs["seed"] == 3 and "never two examples of the same input" in first.attrs["note"]
    assert query.class_density(a, network="pixels", resamples=9)["span"].tolist() == ["conv1->:full"]


@pytest.mark.parametrize("kind", ["same", "different"])
def test_drawn_pairs_are_uniform(kind):
    rng = np.random.default_rng(0)
    labels = np.array([2, 0, 0, 1, 1, 1, 0, 2, 0, 2])
    inputs = np.array([5, 1, 1, 2, 3, 3, 4, 5, 6, 1])  # 1 bears the labels 0 and 2
    allowed = {
        (i, j)
        for i in range(10)
        for j in range(i)
        if inputs[i] != inputs[j] and (labels[i] == labels[j]) == (kind == "same")
    }
    draw = draw_same if kind == "same" else draw_different
    first, second = draw(labels, inputs, 1000, rng)
    assert len(first) == len(allowed)
    assert {(max(i, j), min(i, j)) for i, j in zip(first.tolist(), second.tolist(), strict=True)} == allowed
    times = dict.fromkeys(allowed, 0)
    for _ in range(2000):
        few = draw(labels, inputs, 3, rng)
        assert len(few[0]) == 3
        for i, j in zip(*(side.tolist() for side in few), strict=True):
            times[max(i, j), min(i, j)] += 1
    counts = np.array(list(times.values()))
    assert np.abs(counts - counts.mean()).max() < 5 * np.sqrt(counts.mean())
    none = {"same": ([0, 0, 1], [1, 1, 2]), "different": ([0, 0, 0], [1, 2, 3])}
    assert len(draw(*map(np.array, none[kind]), 5, rng)[0]) == 0


def test_tiles_measure_the_same(a):
    target = a.catalog.target(span="blocks.1.mlp->")
    ids = np.arange(12, 372)
    rng = np.random.default_rng(1)
    pairs = _Pairs(rng.integers(360, size=200), rng.integers(360, size=200), np.zeros(200, bool))
    whole = _measure(a, target, target.before, ids, pairs)
    tiled = _measure(a, target, target.before, ids, pairs, tile_bytes=20_000)
    for one, other in zip(whole, tiled, strict=True):
        np.testing.assert_array_equal(one, other)


def test_bootstrap_resamples_inputs():
    """The interval, against a loop that draws inputs, of one example each, and lists the pairs among them."""
    rng = np.random.default_rng(2)
    first, second = np.triu_indices(12, 1)
    same = (first % 2) == (second % 2)
    value = rng.random(12)
    density = value[first] + value[second] + ~same
    inputs = np.column_stack([first, second])
    found = _intervals(density, same, inputs, 4000, 0.9, np.random.default_rng(3))
    matrix, kinds = np.zeros((12, 12)), np.zeros((12, 12), bool)
    matrix[first, second] = matrix[second, first] = density
    kinds[first, second] = kinds[second, first] = same
    means = []
    for _ in range(4000):
        drawn = rng.integers(12, size=12)
        i, j = drawn[first], drawn[second]
        intra = matrix[i, j][(i != j) & kinds[i, j]]
        inter = matrix[i, j][(i != j) & ~kinds[i, j]]
        if len(inter):
            means.append((intra.mean(), inter.mean(), inter.mean() / intra.mean()))
    tail = norm.cdf(-np.sqrt(12 / 11) * student.ppf(0.95, 11))  # an interval of few units is as wide as Student's
    for end, q in (("low", tail), ("high", 1 - tail)):
        ends = [getattr(interval, end) for interval in found]
        np.testing.assert_allclose(ends, np.quantile(means, q, axis=0), rtol=0.02)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, UnknownName, "holds several networks"),
        ({"network": "words", "pairs": 0}, UsageError, "pairs is 0; expected a whole number of at least 1"),
        ({"network": "words", "resamples": 1.5}, UsageError, "resamples is 1.5"),
        ({"network": "words", "confidence": 95}, UsageError, "confidence is 95; expected a share between 0 and 1"),
        ({"network": "words", "spans": ["blocks.9.mlp->"]}, UnknownName, "no site 'blocks.9.mlp'"),
        ({"network": "pixels", "spans": ["conv1->"]}, UsageError, "has position codes"),
    ],
)
def test_class_density_refuses(a, options, error, message):
    with pytest.raises(error, match=message):
        query.class_density(a, **options)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "update examples set label = null",
            "at least two labels are needed; the 0 labelled .* bear 0 \\(360 have none",
        ),
        ("update examples set label = 'one'", "at least two labels are needed; the 360 labelled examples .* bear 1"),
        ("update examples set label = cast(input_id as varchar)", "no label has examples of two different inputs"),
        ("update examples set label = cast(example_id as varchar), input_id = 1", "no label has examples of two"),
    ],
)
def test_labels_that_cannot_be_compared(damaged, statement, message):
    with atlas.open(damaged(statement)) as a, pytest.raises(UsageError, match=message):
        query.class_density(a, network="words", spans=["blocks.0.mlp->"])


def test_points_that_all_coincide(tmp_path):
    texts = [("0", "odd", "-1:-1 -1:-1"), ("1", "even", "-2:-2 -1:-1"), ("2", "odd", "-3:-3 -1:-1")]
    add_texts(tmp_path / "a", plane_network(), texts)
    with (
        atlas.open(tmp_path / "a") as a,
        pytest.raises(UsageError, match="same-label pairs that were drawn have equal activations at hidden"),
    ):
        query.class_density(a)

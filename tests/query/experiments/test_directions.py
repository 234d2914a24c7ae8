"""Directions against scikit-learn and planted clusters; projections against counting."""

import shutil

import numpy as np
import pytest
from scipy.optimize import nnls
from sklearn.decomposition import NMF

import atlas
from atlas.errors import UnknownName, UsageError
from ingest.derived.clusters import cluster
from query.experiments import archive, registry
from query.experiments.decomposition import cosines, decompose
from query.experiments.directions import nmf_is_monosemantic
from query.experiments.projection import one_neuron_meets_regions
from query.statistics import share_interval
from tests.atlases import add_texts
from tests.networks import plane_network
from tests.query.experiments.judged import interval, result


def run(a, name="directions", **options):
    return registry.run(a, name, **({"network": "words", "site": "blocks.3.mlp", "resamples": 100} | options))


def test_nmf_ends_near_the_least_error():
    """On few clear directions, where ten times the tolerance ends 1.5 % above it; the note says how much is left."""
    rng = np.random.default_rng(0)
    points = rng.random((150, 8)) ** 3 @ rng.random((8, 40)) ** 3 + 0.02 * rng.standard_normal((150, 40))
    points = np.maximum(points, 0).astype(np.float32)
    options = {"init": "nndsvda", "random_state": 0}
    least = NMF(8, tol=1e-7, max_iter=9000, **options).fit(points).reconstruction_err_
    assert NMF(8, tol=1e-3, **options).fit(points).reconstruction_err_ > 1.01 * least
    basis = decompose(points, "nmf", 8, 0)
    coefficients = np.array([nnls(basis.vectors.T.astype(np.float64), point)[0] for point in points])
    assert np.linalg.norm(points - coefficients @ basis.vectors) < 1.001 * least
    share = f"{least / np.linalg.norm(points):.1%}"
    assert any(note.startswith(f"NMF leaves {share} of the norm of the activations") for note in basis.notes)
    assert not any("not settled" in note for note in basis.notes)


def test_pca_gives_leading_eigenvectors():
    """Pca directions are the leading eigenvectors of the covariance."""
    rng = np.random.default_rng(0)
    points = (rng.normal(size=(200, 6)) * [5, 3, 1, 0.5, 0.2, 0.1] + 7).astype(np.float32)
    basis = decompose(points, "pca", 3, 0)
    values, vectors = np.linalg.eigh(np.cov(points.astype(np.float64).T))
    np.testing.assert_allclose(np.abs(np.sum(basis.vectors * vectors.T[::-1][:3], axis=1)), 1, atol=1e-4)
    np.testing.assert_allclose(basis.explained, values[::-1][:3] / values.sum(), rtol=1e-4)
    assert (basis.vectors[np.arange(3), np.abs(basis.vectors).argmax(axis=1)] > 0).all()


def test_nmf_recovers_planted_parts():
    """Nmf directions are non negative of length 1 and recover planted parts."""
    rng = np.random.default_rng(1)
    parts = np.array([[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]]) / np.sqrt(2)
    points = (rng.exponential(size=(300, 3)) * (rng.random((300, 3)) < 0.4)) @ parts
    basis = decompose(np.where(points == 0, -0.05, points).astype(np.float32), "nmf", 3, 0)  # small tails, clipped
    assert (basis.vectors >= 0).all()
    np.testing.assert_allclose(np.linalg.norm(basis.vectors, axis=1), 1, atol=1e-6)
    assert (np.abs(basis.vectors @ parts.T).max(axis=1) > 0.99).all()


def test_cosines_are_those_of_the_definition():
    """Cosines are those of the definition and 0 at the origin."""
    points, directions = np.array([[3.0, 4], [0, 0], [-1, 0]]), np.array([[1.0, 0]])
    np.testing.assert_allclose(cosines(points, directions)[:, 0], [0.6, 0, -1], atol=1e-7)


def test_components_are_at_most_the_units():
    """More components than units are as many as units."""
    assert decompose(np.random.default_rng(0).random((30, 4), np.float32), "pca", 64, 0).vectors.shape == (4, 4)


@pytest.mark.parametrize(("method", "value"), [("nmf", -1.0), ("pca", 2.0)])
def test_activations_with_nothing_to_find(method, value):
    """Activations in which there is nothing to find."""
    with pytest.raises(UsageError, match="finds nothing"):
        decompose(np.full((5, 3), value, np.float32), method, 2, 0)


def test_planted_directions_are_monosemantic(tmp_path):
    """Points far out on either axis of the plane are clusters of codes; each axis is a direction of one of them."""
    far, near = (3, 4, 5), (-3, -2, -1)
    points = [("x", f"{x}:{y}") for x in far for y in near] + [("y", f"{x}:{y}") for x in near for y in far]
    texts = [(f"{point}.txt", kind, " ".join([point] * 4)) for kind, point in points]
    add_texts(tmp_path / "a", plane_network(), texts, per_sequence=4)
    cluster(tmp_path / "a", site="hidden")
    with atlas.open(tmp_path / "a") as a:
        found = registry.run(a, "directions", network="plane", site="hidden", components=2, k=8, resamples=50)
    table = found.table.set_index("method")
    assert table.loc["nmf", "monosemantic"] == 1 and table.loc["nmf", "top_share"] >= 0.9
    assert found.tables["components"].query("method == 'nmf'")["top_cluster"].nunique() == 2
    assert [d.method for d in found.directions] == ["nmf", "pca"] and found.directions[0].vectors.shape == (2, 3)


def test_histograms_count_examples_once(a):
    """Histograms count every clustered example once."""
    found = run(a, components=4, shown=3)
    n = a.value("select count(*) from cluster_labels where clustering_id = 3 and label >= 0")
    counts = found.tables["histogram"].groupby(["method", "component"])["n"].sum()
    assert len(counts) == 8 and (run(a, components=4, clustering=2).parameters["n"] == n)
    assert (counts == found.parameters["n"]).all()


def test_tops_are_the_nearest_in_angle(a):
    """Tops are the nearest in angle and shares are counted."""
    found = run(a, components=3, k=12, clustering=2)
    ids, clusters = zip(
        *a.rows(
            "select example_id, label from cluster_labels where clustering_id = 2 and label >= 0 order by example_id"
        ),
        strict=True,
    )
    _, points = a.activations(a.catalog.target(site="blocks.3.mlp").sites[0], ids)
    for directions in found.directions:
        centre = points.mean(axis=0) if directions.method == "pca" else 0
        angles = cosines(points - centre, directions.vectors)
        rows = found.tables["components"].query(f"method == '{directions.method}'")
        for row in rows.to_dict("records"):
            top = np.array(clusters)[np.argsort(-angles[:, row["component"]], kind="stable")[:12]]
            counts = np.unique(top, return_counts=True)[1]
            assert row["top_share"] == counts.max() / 12 and row["clusters"] == len(counts)
            assert row["monosemantic"] == (counts.max() > 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["ica"]}, r"methods is \['ica'\]"),
        ({"methods": []}, "methods is"),
        ({"threshold": 1.0}, "threshold is 1.0; expected a share between 0 and 1"),
        ({"components": 0}, "components is 0"),
        ({"bins": 1}, "bins is 1"),
    ],
)
def test_impossible_parameters(a, options, message):
    with pytest.raises(UsageError, match=message):
        run(a, **options)


# --- one dimension -------------------------------------------------------------------------------------------------


@pytest.fixture
def line(tmp_path):
    """On unit 0 of the plane's hidden site: 20 points at 1 labelled low, 20 at 3 mixed, 20 at 5 labelled high."""
    lines = [("low", "1:-1", 20), ("low", "3:-1", 8), ("high", "3:-1", 12), ("high", "5:-1", 20)]
    texts = [(f"{label} {point}", label, " ".join([point] * n)) for label, point, n in lines]
    add_texts(tmp_path / "a", plane_network(), texts, per_sequence=4)
    with atlas.open(tmp_path / "a") as a:
        yield a


def test_one_neuron_meets_pure_and_mixed(line):
    """One neuron meets two monosemantic regions and a mixed one."""
    found = registry.run(line, "projection", network="plane", site="hidden", unit=0, threshold=0.8, resamples=50)
    table = found.table
    assert table["low"].tolist() == [1, 3, 5] and table["size"].tolist() == [20, 20, 20]
    assert table["purity"].tolist() == [1.0, 0.6, 1.0] and table["monosemantic"].tolist() == [True, False, True]
    assert table["top_label"].tolist()[::2] == ["low", "high"]
    [summary] = found.tables["summary"].to_dict("records")
    assert summary == {"intervals": 3, "monosemantic": 2, "top_labels": 2, "noise": 0.0, "n": 60}
    assert found.tables["histogram"]["n"].sum() == 60
    # All that is at 1 comes from one text.
    expected = share_interval(20, 20, independent=1)
    assert (table["purity_low"][0], table["purity_high"][0]) == (expected.low, expected.high)


def test_purity_intervals_widen_with_few(a):
    """Tokens of one text share its label: of 360 tokens of 60 texts, 59 of which have a label."""
    options = {"network": "words", "site": "blocks.3.mlp", "unit": 0, "min_cluster_size": 20}
    table = registry.run(a, "projection", **options).table
    site = a.catalog.target(site="blocks.3.mlp", network="words").sites[0]
    ids, points = a.activations(site)
    known = dict(a.rows("select example_id, input_id from examples where label is not null"))
    compared = 0
    for row in table.to_dict("records"):
        assert row["labelled"] > row["inputs"]
        inside = [
            known[i]
            for i, value in zip(ids.tolist(), points[:, 0].tolist(), strict=True)
            if row["low"] <= value <= row["high"] and i in known
        ]
        if len(inside) != row["labelled"]:
            continue  # noise lies inside as well
        compared += 1
        successes = round(row["purity"] * row["labelled"])
        expected = share_interval(successes, row["labelled"], independent=len(set(inside)))
        assert (row["purity_low"], row["purity_high"]) == (expected.low, expected.high)
    assert compared > 0


def test_a_stored_direction_is_projected_on(built, tmp_path):
    path = tmp_path / "copy.atlas"
    shutil.copytree(built, path)
    with atlas.open(path, writable=True) as writer:
        directions = run(writer, components=3)
        archive.save(writer, directions)
        found = run(writer, "projection", method="pca", component=1)
        site = writer.catalog.target(site="blocks.3.mlp").sites[0]
        expected = writer.activations(site)[1] @ directions.directions[1].vectors[1]
    assert found.parameters["direction"] == "pca direction 1"
    table = found.table
    inside = [
        int(((expected >= low - 1e-5) & (expected <= high + 1e-5)).sum())
        for low, high in zip(table["low"], table["high"], strict=True)
    ]
    assert len(table) >= 2 and all(n <= held for n, held in zip(table["size"], inside, strict=True))  # noise inside
    assert (table["low"].to_numpy()[1:] > table["high"].to_numpy()[:-1]).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, UsageError, "name a unit, or a method"),
        ({"unit": 1, "method": "pca", "component": 0}, UsageError, "one of the two"),
        ({"method": "pca"}, UsageError, "with a component"),
        ({"unit": 99}, UsageError, r"site blocks.3.mlp has 31 units"),
        ({"method": "nmf", "component": 2}, UnknownName, r"no direction nmf 2 of site blocks.3.mlp"),
        ({"unit": 1, "selection": "best"}, UsageError, "selection is 'best'"),
    ],
)
def test_projections_that_are_refused(a, options, error, message):
    with pytest.raises(error, match=message):
        run(a, "projection", **options)


def test_the_seed_decides_the_numbers(a):
    """The same seed gives the same numbers."""
    options = {"components": 4, "examples": 200}
    first, again, other = (run(a, **options, seed=seed) for seed in (3, 3, 4))
    assert all(first.tables[name].equals(again.tables[name]) for name in first.tables)
    for one, two in zip(first.directions, again.directions, strict=True):
        np.testing.assert_array_equal(one.vectors, two.vectors)
    assert not first.tables["components"].equals(other.tables["components"])
    projected = [run(a, "projection", unit=3, examples=200, seed=seed) for seed in (3, 3, 4)]
    assert all(projected[0].tables[name].equals(projected[1].tables[name]) for name in projected[0].tables)
    assert not projected[0].tables["histogram"].equals(projected[2].tables["histogram"])


def test_every_direction_has_a_histogram(a):
    """Every direction has its histogram and the figure shows some."""
    found = run(a, components=6, shown=3, bins=10)
    histogram = found.tables["histogram"]
    assert histogram.groupby("method")["component"].nunique().to_dict() == {"nmf": 6, "pca": 6}
    totals = histogram.groupby(["method", "component"])["n"].sum()
    assert (totals == found.parameters["n"]).all()
    panels = [title.text for title in found.figure().layout.annotations if "one cluster" in title.text]
    assert len(panels) == 6
    components = found.tables["components"].set_index(["method", "component"])["top_share"]
    for method in ("nmf", "pca"):
        shown = [panel for panel in panels if panel.startswith(method.upper())]
        assert f"{components[method].max():.0%}" in shown[0] and f"{components[method].min():.0%}" in shown[-1]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("options", [{"shown": 0}, {"seed": -1}, {"resamples": 1.5}])
def test_the_impossible_is_refused_first(a, options):
    """What is impossible is refused before anything is factorised."""
    told = []
    for name in ("directions", "dictionary"):
        asked = {**options, "site": "blocks.3.mlp", "network": "words"}
        with pytest.raises(UsageError, match=next(iter(options))):
            registry.run(a, name, **asked, progress=lambda done, total: told.append(done))
    assert not told


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        ([("a", 0.9, 0.7), ("b", 0.8, 0.6)], "supported"),
        ([("a", 0.9, 0.7), ("a", 0.8, 0.6)], "undecided"),
        ([("a", 0.9, 0.7), ("b", 0.6, 0.4)], "undecided"),
        ([("a", 0.9, 0.7), ("b", 0.4, 0.2)], "not supported"),
        ([("b", 0.4, 0.2)], "undecided"),  # of one interval nothing can be told apart
    ],
)
def test_one_neuron_meets_several_labels(rows, word):
    """One neuron meets regions of different labels."""
    table = [
        {
            "low": 0.0,
            "high": 1.0,
            "top_label": label,
            "purity": purity,
            "purity_low": low,
            "purity_high": low + 0.29,
            "labelled": 30,
        }
        for label, purity, low in rows
    ]
    assert one_neuron_meets_regions(result("projection", table=table)).word == word


@pytest.mark.parametrize(
    ("ends", "word"), [((0.6, 0.8), "supported"), ((0.4, 0.6), "undecided"), ((0.1, 0.3), "not supported")]
)
def test_nmf_decides_on_nmf_alone(ends, word):
    rows = [
        {"method": method, "directions": 64, **interval("monosemantic", *both), **interval("top_share", 0.2, 0.9)}
        for method, both in (("nmf", ends), ("pca", (0.9, 1.0)))
    ]
    assert nmf_is_monosemantic(result("directions", table=rows)).word == word

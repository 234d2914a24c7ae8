"""No verdict is easier with less data: where the truth lies on a rule's bound, few samples decide no more than many.

What is looked at is drawn around its true value, n samples of it, with the intervals that experiments give.
"""

import numpy as np
import pytest

from query.experiments import (
    adversarial,
    affine,
    density,
    dictionary,
    directions,
    flow,
    interpolate,
    intervene,
    layernorm,
    monosemanticity,
    neuron,
    polytopes,
    projection,
    scale,
    soft,
)
from query.statistics import auc_interval, mean_interval, share_interval
from tests.query.experiments.judged import interval, result
from tests.query.experiments.test_density_experiment import densities
from tests.query.experiments.test_monosemanticity import clustered
from tests.query.experiments.test_verdicts import scaling, softness

SAMPLES = (3, 6, 50)
TRIES = 30


class Drawn:
    """Intervals of n samples. ``mean``: of a number; ``share``: of what comes out one way or the other."""

    def __init__(self, n, seed):
        self.n, self.rng = n, np.random.default_rng([n, seed])

    def mean(self, truth, spread=0.3):
        found = mean_interval(truth + spread * self.rng.standard_normal(self.n), self.rng, resamples=100)
        return found.low, found.high

    def share(self, truth):
        return int(self.rng.binomial(self.n, truth))


def separated(d):
    controls = [d.mean(1 + density.NO_DIFFERENCE) for _ in range(2)]
    rows = densities("net", "as given", (1.2, 1.4), (1.2, 1.4)) + densities("drawn", "untrained, raw", *controls)
    return density.boundaries_separate_classes(result("density", table=rows))


def unseparated(d):
    rows = densities("net", "as given", *(d.mean(1) for _ in range(2)))
    rows += densities("drawn", "untrained, raw", (0.98, 1.02), (0.98, 1.02))
    return density.boundaries_separate_classes(result("density", table=rows))


def denser_deeper(d):
    return density.difference_grows_with_depth(
        result("density", table=densities("net", "as given", d.mean(1.1), d.mean(1.1)))
    )


def peaked(d):
    return scale.peak_inside(scaling(activation=((0.4, 0.6), d.mean(scale.LEAST_PEAK))))


def peaked_untrained(d):
    control = (0.4, 0.6), d.mean(scale.LEAST_PEAK)
    return scale.no_peak_untrained(scaling(activation=((0.2, 0.4), (2, 3)), random=control))


def paths(d):
    rows = [
        {"kind": "same", "n": d.n, **interval("density", 1, 2), **interval("ratio", np.nan, np.nan)},
        {"kind": "different", "n": d.n, **interval("density", 1, 2), **interval("ratio", *d.mean(1))},
    ]
    return interpolate.paths_between_classes_are_denser(result("interpolate", summary=rows))


def maps(d):
    rows = [{"of": "hamming", "with": "frobenius", "n": d.n, **interval("rho", *d.mean(0))}]
    return affine.gates_follow_maps(result("affine", summary=rows))


def attacks(d):
    ends = [(2, 3), (2, 3), d.mean(1)]
    rows = [
        {"kind": "pgd", "epsilon": e, "n": d.n, **interval("ratio", *both), **interval("changed", 0, 1)}
        for e, both in enumerate(ends)
    ]
    return adversarial.attacks_cross_more(result("adversarial", table=rows))


def blurred(d):
    return soft.smooth_gates_blur(softness("gelu", (0.3, 0.4), (0.3, 0.4), d.mean(soft.BLURRED, 0.05)))


def normed(d):
    rows = [
        {"scaled": scaled, "n": d.n, **interval("share", *ends)}
        for scaled, ends in (
            (layernorm.BEFORE, d.mean(layernorm.SCALE_FREE, 0.01)),
            (layernorm.HIDDEN, (0.1, 0.2)),
        )
    ]
    return layernorm.norm_removes_scale(result("layernorm", summary=rows))


def set_gates(d):
    rows = [
        {"measure": measure, "n": d.n}
        | interval("distinctive", 1, 2)
        | interval("random", 1, 2)
        | interval("difference", *d.mean(0))
        for measure in ("kl", "tv", "changed", "gain", "later", "moved")
    ]
    return intervene.gates_carry_meaning(result("intervene", table=rows))


def flowing(d):
    rows = [
        {"kind": kind, "n": d.n, **interval("lift", *ends)}
        for kind, ends in (("convergence", (2, 3)), ("divergence", d.mean(1)))
    ]
    summary = [{"n_pairs": d.n, **interval("spearman", 0, 1)}]
    return flow.representations_flow(result("flow", table=rows, summary=summary))


def bases(d):
    rows = [{"kind": kind, "groups": d.n, **interval("purity", *d.mean(0.5))} for kind in ("atoms", "clusters")]
    return dictionary.basis_beats_clusters(result("dictionary", table=rows))


def clusters(d):
    """Two sites for it, and one against, whose clusters are fewer."""
    few = max(1, d.n // 4)
    return monosemanticity.clusters_are_monosemantic(
        clustered("code clusters", ((2, 3), d.n, d.n), ((2, 3), d.n, d.n), ((2, 3), few // 5, few))
    )


def pure_clusters(d):
    return monosemanticity.clusters_are_monosemantic(clustered("code clusters", ((2, 3), d.share(0.5), d.n)))


def tops(d):
    met = d.share(0.5)
    ranking = [{"top": 9, "noise": 0, "groups": 2 if i < met else 1} for i in range(d.n)]
    summary = [{"of": of, "n": 9, **interval("group_entropy", 1, 2)} for of in ("units", "random sets")]
    return neuron.neurons_are_polysemantic(result("neuron", ranking=ranking, summary=summary))


def factors(d):
    share = share_interval(d.share(0.5), d.n)
    row = {"method": "nmf", "directions": d.n, **interval("top_share", 0, 1), **share.columns("monosemantic")}
    return directions.nmf_is_monosemantic(result("directions", table=[row]))


def regions(d):
    rows = [
        {
            "low": 0,
            "high": 1,
            "top_label": label,
            "labelled": d.n,
            **share_interval(d.share(0.5), d.n).columns("purity"),
        }
        for label in "abc"
    ]
    return projection.one_neuron_meets_regions(result("projection", table=rows))


def compared(what, n, found, chance=0.5):
    row = {"what": what, "kind": "activation", "chance": chance, "n": n, "inputs": n, **found.columns("value")}
    return result("polytopes", summary=[row])


def farther(d):
    return polytopes.farther(compared("farther", d.n, share_interval(d.share(0.5), d.n)))


def misclassified(d):
    """Of four examples three are misclassified; inradii are the same."""
    n = 4 * d.n
    found = auc_interval(d.rng.standard_normal(n), np.arange(n) % 4 == 0, d.rng, resamples=100)
    return polytopes.misclassified_nearer(compared("misclassified", n, found))


def deeper(d):
    return polytopes.deepest_bound(compared("deeper", d.n, share_interval(d.share(0.7), d.n), 0.7))


def sooner(d):
    found = mean_interval(0.5 + 0.3 * d.rng.standard_normal(d.n), d.rng, resamples=100)
    return polytopes.others_sooner(compared("sooner", d.n, found))


@pytest.mark.slow
@pytest.mark.parametrize(
    "judged",
    [
        separated,
        unseparated,
        denser_deeper,
        peaked,
        peaked_untrained,
        paths,
        maps,
        attacks,
        blurred,
        normed,
        set_gates,
        flowing,
        bases,
        clusters,
        pure_clusters,
        tops,
        factors,
        regions,
        farther,
        misclassified,
        deeper,
        sooner,
    ],
)
def test_less_data_makes_nothing_surer(judged):
    """A rule at its bound errs by chance on either side in 2.5 % of the cases: of 30, rarely in more than four."""
    for n in SAMPLES:
        words = [judged(Drawn(n, seed)).word for seed in range(TRIES)]
        assert max(words.count("supported"), words.count("not supported")) <= 4, (n, words)

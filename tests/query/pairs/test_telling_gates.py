"""The gates that tell two codes apart, against counting one example after another."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

import query
from atlas.errors import UsageError
from query.neurons.gate_tops import gate_tops
from query.pairs.telling_gates import bits_of


def counted_by_hand(a, site, gate):
    """By every code: how many have the gate on, and the labels of these and of all."""
    ids, codes = a.codes([site])
    labels = dict(a.rows("select example_id, label from examples where label is not null"))
    on = [int(i) for i, bits in zip(ids, codes.unpack(), strict=True) if bits[gate]]
    return len(on) / len(ids), *(Counter(labels[i] for i in held if i in labels) for held in (on, ids.tolist()))


@pytest.mark.parametrize("asked", [{"site": "blocks.3.mlp"}, {"span": "blocks.1.mlp->"}])
def test_telling_gates_come_first(a, asked):
    target = a.catalog.target(network="words", **asked)
    x, y = (query.subject(a, example=example, network="words", **asked) for example in (40, 371))
    told: list[tuple[int, int]] = []
    found = query.telling_gates(a, x, y, most=1000, examples=3, progress=lambda *done: told.append(done))
    assert len(found) == found.attrs["n_differ"] == len(query.gates_apart(a, 40, 371, network="words", **asked).gates)
    assert found["bits"].is_monotonic_decreasing and found.attrs["target"] == target.name
    sites = {site.name: site for site in target.sites}
    for row in found.head(12).to_dict("records"):
        site = sites[row["site"]]
        on = dict(zip((40, 371), a.codes([site], [40, 371])[1].unpack()[:, row["gate"]], strict=True))
        assert on == {40: row["on_in"] == "x", 371: row["on_in"] == "y"}
        rate, having, everyone = counted_by_hand(a, site, row["gate"])
        assert row["on_rate"] == pytest.approx(rate)
        p = (rate * site.n_codes + 0.5) / (site.n_codes + 1)
        assert row["bits"] == pytest.approx(-math.log2(2 * p * (1 - p)))
        share = {label: having[label] / having.total() / (everyone[label] / everyone.total()) for label in having}
        gain = {label: having[label] * math.log(lift) for label, lift in share.items()}
        best = max(gain.values(), default=0)
        if best > 1e-12:
            assert gain[row["label"]] == pytest.approx(best) and row["lift"] == pytest.approx(share[row["label"]])
            assert row["label_share"] == pytest.approx(having[row["label"]] / having.total())
        ids, values = a.activations(site)
        column = values[:, row["gate"]]
        top = np.argsort(-column, kind="stable")[:3]
        assert row["examples"] == ids[top][column[top] > 0].tolist()
    assert told == sorted(told) and told[-1][0] == told[-1][1]
    few = query.telling_gates(a, x, y, most=2, examples=0)
    assert few["gate"].tolist() == found["gate"].head(2).tolist() and few["examples"].tolist() == [[], []]


def test_a_place_of_a_channel_is_no_unit(a):
    """A gate of one place of a channel is no unit: examples are spread over all that have it on."""
    site = a.catalog.target(site="conv1:full", network="pixels").sites[0]
    ids, codes = a.codes([site])
    counts = codes.gate_counts()
    gate = int(np.argmax((counts > 3) & (counts < len(ids))))
    on = ids[codes.unpack()[:, gate]].tolist()
    [top] = gate_tops(a, site, [gate], 3)
    assert len(top) == 3 and set(top) <= set(on) and (top[0], top[-1]) == (on[0], on[-1])


def test_a_gate_never_on_says_the_most():
    counts = np.array([0, 1, 50, 99, 100])
    assert bits_of(counts, 100).argsort(kind="stable").tolist()[0] == 2
    assert np.isfinite(bits_of(counts, 100)).all() and bits_of(counts, 100)[2] == pytest.approx(1)


def test_codes_of_two_targets_are_refused(a):
    x = query.subject(a, example=40, site="blocks.1.mlp", network="words")
    y = query.subject(a, example=40, site="blocks.2.mlp", network="words")
    with pytest.raises(UsageError, match=r"blocks.1.mlp of network words, example 40 at blocks.2.mlp.*read both"):
        query.telling_gates(a, x, y)

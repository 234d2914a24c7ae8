"""Requests that the page of the API shows: about what the atlas holds, so that they run as they stand."""

from __future__ import annotations

from typing import Any

from atlas import Atlas
from atlas.network import FULL_SUFFIX, INPUT
from query import Subject
from query.remote.arguments import types_of

from ..serving.questions import Question

FEW = 5
SMALL = {"k": FEW, "limit": FEW, "pairs": 100, "resamples": 100, "directions": 100}
"""Of parameters that say how much, small values: an example answers at once."""

TARGETS = """
select sites.name, networks.name, sites.site_id
from sites join networks using (network_id)
where n_codes > 1
order by
    networks.network_id not in (select network_id from clusterings where n_clusters > 0),
    n_activations = 0, scope <> 'position', networks.network_id, ordinal desc
limit 1
"""
CLUSTERINGS = """
select clustering_id, clusterings.network_id
from clusterings join networks using (network_id)
where n_clusters > 0
order by networks.name is distinct from $1, clustering_id
"""
LAYOUTS = """
select layout_id, [min(x), min(y), max(x), max(y)] from layout_points group by layout_id order by layout_id limit 1
"""
PICTURES = """
select example_id from examples join inputs using (input_id) where thumbnail is not null order by example_id limit 1
"""
OF_NETWORK = "select example_id from examples where network_id = $1 order by example_id"
SAME_SITES = """
select list(name order by network_id) from (
    select networks.network_id, networks.name, list(sites.name order by sites.name) as held
    from networks join sites using (network_id) group by all
) group by held having count(*) > 1 limit 1
"""


EXACT = """
select networks.network_id, networks.name, networks.kind
from networks join sites using (network_id)
group by networks.network_id, networks.name, networks.kind
having bool_and(exact) filter (scope = 'full') or (kind = 'vector' and bool_and(exact))
order by kind = 'vector' desc, networks.network_id
limit 1
"""


def values_of(a: Atlas) -> dict[str, Any]:
    """A value for parameters of each name, as far as the atlas has one; ``pictured``: an example with a picture."""
    values: dict[str, Any] = {
        **SMALL,
        "distances": [0, 10],
        "query": "select label, count(*) as n from examples group by all order by n desc, label",
    }
    for site, network, number in a.rows(TARGETS):
        held = "select example_id from codes where site_id = $1 order by example_id limit $2"
        ids = [example for (example,) in a.rows(held, [number, FEW + 1])]
        values |= {"site": site, "network": network, "unit": 0}
        values |= {"example": ids[0], "x": ids[0], "y": ids[1], "examples": ids[:FEW], "others": ids[1:]}
        [(words,)] = a.rows("select coalesce(label, prediction) from examples where example_id = $1", ids[:1])
        values |= {"words": words} if words else {}
    found = a.rows(CLUSTERINGS, [values.get("network")])
    for clustering, network in found[:1]:
        others = [other for other, same in found[1:] if same == network]
        values |= {"clustering": clustering, "cluster": 0, "other": others[0] if others else clustering}
    for layout, box in a.rows(LAYOUTS):
        values |= {"layout": layout, "within": box}
    for (names,) in a.rows(SAME_SITES):
        values["networks"] = names
    for (example,) in a.rows(PICTURES):
        values["pictured"] = example
    for (experiment,) in a.rows("select experiment_id from experiments order by all limit 1"):
        values["experiment_id"] = experiment
    return values


def live_values_of(a: Atlas) -> dict[str, Any]:
    """The same for questions that a network is run for: about one that is piecewise linear, if there is any."""
    for number, network, kind in a.rows(EXACT):
        whole = [site for site in a.catalog.sites if site.network == network and site.scope == "full"]
        ids = [example for (example,) in a.rows(f"from ({OF_NETWORK}) limit 2", [number])]
        if len(ids) == 2 and (len(whole) > 1 or kind == "vector"):
            blocks = sorted(whole, key=lambda site: site.ordinal)
            after = INPUT if kind == "vector" else blocks[-2].name.removesuffix(FULL_SUFFIX)
            span = f"{after}->" if kind == "vector" else f"{after}->{FULL_SUFFIX}"
            return {**SMALL, "span": span, "network": network, "example": ids[0], "x": ids[0], "y": ids[1]}
    return {}


def example_of(question: Question, values: dict[str, Any]) -> dict[str, Any] | None:
    """The arguments of a request that runs; None where the atlas has nothing to ask it about."""
    known = question.parameters
    wanted = {name for name, p in known.items() if p.default is p.empty} - {"reader"}
    if question.function.__module__.startswith("query.clustering") and "clustering" in known:
        wanted.add("clustering")
    elif "span" not in wanted:
        wanted |= {"site", "network"} & set(known)
    wanted |= {"example", "networks", *SMALL} & set(known)
    if question.name == "nearest_many":
        wanted.add("examples")
    if not wanted <= set(values) or any(types_of(known[name].annotation) == (Subject,) for name in wanted):
        return None
    return {name: values[name] for name in known if name in wanted}

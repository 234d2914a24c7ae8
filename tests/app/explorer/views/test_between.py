"""The page that compares: two of anything gate by gate, and two clusters."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np

import atlas
import query
from app.explorer import moved
from query.clustering.clusterings import latest_clustering
from tests.app.explorer.running import column, computed, errors, figures, metrics, opened, press, words
from tests.app.explorer.views_by_hand import SITE, TEXT
from tests.networks import shipped

IMAGE, FULL_SITE = "demo-inceptionv1", "inception5b:full"
TOKENS = ("import", " asyncio", "\n")


def test_a_pair_is_that_of_the_query(demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        apart = query.gates_apart(a, 101, 140, site=SITE, network=TEXT)
        pair = [query.subject(a, example=example, site=SITE, network=TEXT) for example in (101, 140)]
        telling = query.telling_gates(a, *pair, most=24)
    app = opened(demo_atlas, "between", network=TEXT, target=SITE, pin=[101, 140])
    assert errors(app) == []
    [site] = apart.sites.to_dict("records")
    assert metrics(app) == [f"{site[name]:,}" for name in ("differ", "only_x", "only_y")]
    assert column(app, 1) == [str(gate) for gate in telling["gate"]]
    assert column(app, 2) == ["A" if on_in == "x" else "B" for on_in in telling["on_in"]]
    assert column(app, 3) == [f"{rate:.1%}" for rate in telling["on_rate"]]
    assert column(app, 5)[0].startswith(telling["label"].iloc[0])
    on = {letter: int((cells(figures(app)[0], letter) == 2).sum()) for letter in "AB"}
    assert on == {"A": site["only_x"], "B": site["only_y"]}


def cells(figure: dict[str, Any], letter: str) -> np.ndarray:
    """What a figure of codes holds of one of them: 0 off, 1 on in both, 2 on in it alone."""
    [band] = [trace for trace in figure["data"] if f"</b>, {letter}<br>" in trace.get("hovertemplate", "")]
    return np.frombuffer(base64.b64decode(band["z"]["bdata"]), band["z"]["dtype"])


def test_two_tokens_of_a_pasted_text(demo_atlas: Path):
    """Compared with nothing stored of either; also the way between them."""
    text = "".join(TOKENS)
    with atlas.open(demo_atlas) as a:
        reader = shipped("demo:gpt2")
        found = [query.subject(a, text=text, token=token, site=SITE, network=TEXT, reader=reader) for token in (0, 1)]
        telling = query.telling_gates(a, *found, most=24)
    starts = [0, len(found[0].tokens[0])]
    pins = [
        f"token:{start}:{start + len(found[0].tokens[token])}:{token}:{text}"
        for token, start in zip((0, 1), starts, strict=True)
    ]
    app = opened(demo_atlas, "between", network=TEXT, target=SITE, pin=pins, size=16)
    assert errors(app) == [] and metrics(app)[0] == f"{telling.attrs['n_differ']:,}"
    assert column(app, 1) == [str(gate) for gate in telling["gate"]]
    app.segmented_control(key="part").set_value("Path")
    app.run()
    press(app, "Compute")
    assert errors(app) == [] and len(figures(app)) == 1 and "Computed now and not stored" in words(app)
    app.segmented_control(key="part").set_value("Slice")
    computed(app)
    assert app.segmented_control(key="by").value == "Three examples"
    assert errors(app) == [] and len(figures(app)) == 1 and int(metrics(app)[0].strip("≥ ").replace(",", "")) > 1
    names = [mark["text"] for mark in figures(app)[0]["layout"]["annotations"]]
    assert {"a", "b"} <= set(names) and any(name.startswith("c ") for name in names)


def test_clusters_are_told_apart(demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        number = text_clustering(a)
        gates = query.distinctive_gates(a, clustering=number, cluster=0, against=1, most=24)
    app = opened(demo_atlas, "between", network=TEXT, pin=[f"cluster:{number}:0", f"cluster:{number}:1"])
    told = gates[gates["distinctive"]]
    assert errors(app) == []
    assert f"{gates.attrs['n_distinctive']:,} of {gates.attrs['n_gates']:,} gates of {SITE}" in words(app)
    assert column(app, 1) == [str(gate) for gate in told["gate"]]
    assert column(app, 3) == [f"{share:.0%}" for share in told["inside"]]
    units = [f'href="neurons?unit={gate}&amp;network={TEXT}&amp;target={SITE}"' for gate in told["gate"]]
    assert all(any(unit in part.value for part in app.html) for unit in units)


def text_clustering(a: atlas.Atlas) -> int:
    """The newest of the site."""
    return latest_clustering(a, a.catalog.target(site=SITE, network=TEXT)).clustering_id


def test_some_of_many_pins_are_compared(demo_atlas: Path):
    """The newest of one sort, or those of the address; more than three are told."""
    held, first = [101, 102, 103, 104], ["example:101", "example:103"]
    app = opened(demo_atlas, "between", network=TEXT, target=SITE, pin=held, of=first)
    assert app.session_state["named-in-address"]["of"] == first and errors(app) == []
    with atlas.open(demo_atlas) as a:
        cluster = f"cluster:{text_clustering(a)}:0"
    opened_anew = opened(demo_atlas, "between", network=TEXT, target=SITE, pin=[*held, cluster], of=["gone"])
    assert opened_anew.session_state["named-in-address"]["of"] == [cluster], "the newest, and its sort"


def test_pins_of_one_network_are_compared(demo_atlas: Path):
    """Those of others are told, with where they are compared."""
    with atlas.open(demo_atlas) as a:
        clusters = [f"cluster:{text_clustering(a)}:{number}" for number in (0, 1)]
    app = opened(demo_atlas, "between", network=IMAGE, pin=[*clusters, f"token@{TEXT}:0:6:0:import asyncio", 2, 9])
    assert (
        errors(app) == []
        and "of" not in app.session_state["named-in-address"]
        and "3 pins are of demo-gpt2: compare them there" in words(app)
    )
    assert "example 2" in words(app) and "Gates that tell A from B" not in words(app)
    alone = opened(demo_atlas, "between", network=TEXT, target=SITE, pin=[2, 101])
    assert errors(alone) == [] and f"1 pin is of {IMAGE}: compare it there" in words(alone)
    assert f"Only one of {TEXT} is pinned" in words(alone)


def test_an_address_chooses_two_of_three(demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        held = [f"cluster:{text_clustering(a)}:{number}" for number in (0, 1, 2)]
    app = opened(demo_atlas, "between", network=TEXT, target=SITE, pin=held, of=held[1:])
    assert app.session_state["named-in-address"]["of"] == held[1:] and not app.segmented_control


def test_what_has_no_density_is_explained(demo_atlas: Path):
    app = opened(demo_atlas, "between", network=IMAGE, part="Path", span="inception4c->:full", pin=[2, 9])
    assert errors(app) == [] and "needs the codes of inception4d:full" in words(app)


def test_a_pairs_density_stands_on_its_path(demo_atlas: Path):
    with atlas.open(demo_atlas) as a:
        pair = query.density(a, 2, 9, span="inception5a->:full", network=IMAGE)
    app = opened(demo_atlas, "between", network=IMAGE, part="Path", span="inception5a->:full", pin=[2, 9])
    assert metrics(app)[:2] == [f"{pair.density:#.4g}", f"{pair.hamming:,}"]


def test_old_addresses_name_pins():
    given = {"a": ["3"], "b": ["8"], "span": ["x->"], "t": ["0.25"]}
    assert moved.translated(given, moved.ENDS) == {"pin": ["3", "8"], "span": ["x->"], "t": ["0.25"]}

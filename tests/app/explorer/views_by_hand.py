"""A view of every page, in states in which it shows much: what holds of all pages is looked at in each of them."""

from __future__ import annotations

from typing import NamedTuple

from tests.app.conftest import SLICED

TEXT, SITE = "demo-gpt2", "blocks.2.mlp"
IMAGE, FULL_SITE = "demo-inceptionv1", "inception5b:full"


class View(NamedTuple):
    """A page and its state; ``measured``: of the atlas that stores experiments."""

    page: str
    state: dict[str, object]
    measured: bool = False


def _text(page: str, **state: object) -> View:
    return View(page, {"network": TEXT, "target": SITE, **state})


def _image(page: str, target: str = "inception5b", **state: object) -> View:
    return View(page, {"network": IMAGE, "target": target, **state})


def _measured(page: str, **state: object) -> View:
    return View(page, {"network": IMAGE, "target": FULL_SITE, **state}, measured=True)


VIEWS = {
    "start": _text(""),
    "about": _measured("", about=True),
    "look": _text("look", k=5),
    "look-image": _image("look", FULL_SITE, example=7, scope="Codes of all positions"),
    "look-span": View("look", {"network": TEXT, "target": "blocks.0.mlp->", "k": 5}),
    "look-text": _text("look", text="import asyncio\n", k=5),
    "look-found": _text("look", find="self"),
    "cluster": _text("cluster"),
    "cluster-noise": _text("cluster", cluster="noise"),
    "cluster-counts": _text("cluster", part="Labels and tokens"),
    "cluster-gates": _image("cluster", part="Gates"),
    "cluster-near": _text("cluster", part="Near clusters"),
    "cluster-flow": _image("cluster", "inception5a", part="Flow"),
    "cluster-against": _text("cluster", part="Against activations"),
    "atlas": _image("atlas"),
    "atlas-cluster": _text("atlas", cluster=3),
    "atlas-region": _image("atlas", within="-100,-100,100,100"),
    "neurons": _text("neurons", unit=7),
    "neurons-ranking": _image("neurons", section="Ranking", order="Highest entropy of labels"),
    "neurons-directions": _image("neurons", section="Directions", run=1),
    "between": _text("between", pin=[101, 140, 180]),
    "between-path": _image("between", part="Path", span="inception5a->:full", pin=[3, 8], run=1),
    "between-slice": _measured("between", part="Slice", **SLICED),
    "between-clusters": _text("between", pin=["cluster:1:0", "cluster:1:1"]),
    "sql": _text("sql"),
    "sql-chart": _text("sql", show="Chart"),
    "claims": _measured("claims", **{"claim-density": "true"}),
    "claims-new": _image("claims", FULL_SITE),
    "results": _measured("claims", show="Stored"),
    "results-unasked": _measured("claims", show="Not stored"),
}

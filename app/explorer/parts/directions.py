"""Directions of NMF and PCA at a site, beside its units: whether each is about one cluster."""

from __future__ import annotations

from typing import Any

from atlas import Atlas
from atlas.store.catalog import SiteRecord
from query.experiments import archive
from query.experiments.result import Result

from .. import address
from ..view import View, records
from . import cards, figures, markup, measured, show
from .show import KEY, NUMBER, Column, Row

ROWS = 25  # directions a page


def draw(view: View, site: SiteRecord) -> None:
    """The directions that are stored, or fitted when someone asks."""
    options: dict[str, Any] = {"site": site.name}
    found = measured.stored(view, "directions", options) or _any_stored(view, site)
    if found is None:
        if not measured.offer(
            "64 directions of NMF and 64 of PCA, fitted to at most 10,000 clustered examples: seconds on the demo, "
            "minutes on a large atlas. The command below stores the result.",
            "directions",
        ):
            measured.code(view, "directions", options)
            return
        found = measured.answer(view, "directions", options, "Fitting NMF and PCA")
        if found is None:
            return
    result = found.result
    figures.show(
        measured.drawn(result),
        f"directions-{site.name}".replace(":", "-"),
        key="directions",
        data=result.tables["histogram"],
        alt="Histograms of cosines with directions of NMF and PCA, by cluster",
    )
    measured.remarks(found)
    _components(view, result)
    given = {name: value for name, value in result.options.items() if name != "network"}
    measured.code(view, "directions", given or options, tables=["components"])


def _any_stored(view: View, site: SiteRecord) -> measured.Answer | None:
    """The newest stored result on this site whose data has not changed, whatever else it was asked with."""
    number, result = view.ask(_newest, view.network.name, site.name)
    return None if number is None or result is None else measured.Answer(result, number)


def _newest(atlas: Atlas, network: str, site: str) -> tuple[int | None, Result | None]:
    for row in records(archive.stored(atlas, "directions", network)):
        if row["current"] and row["parameters"].get("site") == site:
            return int(row["experiment_id"]), archive.load(atlas, int(row["experiment_id"]))
    return None, None


def _components(view: View, result: Result) -> None:
    """The directions, those whose top is mostly of one cluster first."""
    clustering = result.parameters.get("clustering")
    shown = result.tables["components"].sort_values(
        ["top_share", "method", "component"], ascending=[False, True, True], kind="stable"
    )
    rows_shown = address.paged(len(shown), ROWS, of="directions")

    def cluster(row: Row) -> str:
        number = row["top_cluster"]
        return cards.cluster_link(view, clustering, number) if clustering else str(number)

    columns = [
        Column("Method", KEY, lambda row: markup.plain(row["method"])),
        Column("Direction", NUMBER, lambda row: str(row["component"]), "Number of the component"),
        Column("Top in one cluster", NUMBER, lambda row: f"{row['top_share']:.0%}", "That the commonest holds"),
        Column("Cluster", KEY, cluster, "The commonest of its top"),
        Column("Clusters", NUMBER, lambda row: str(row["clusters"]), "In its top"),
        Column("Entropy", NUMBER, lambda row: markup.number(row["entropy"], 3), "Over the clusters of its top, bits"),
        Column("Highest cosine", NUMBER, lambda row: markup.number(row["highest"], 3)),
        Column("Explained", NUMBER, lambda row: markup.number(row["explained"], 3), "Share of the variance"),
    ]
    show.table(records(shown.iloc[rows_shown]), columns)

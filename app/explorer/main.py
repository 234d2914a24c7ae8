"""The explorer: which atlas, which page, and what the sidebar chose. ``polytope app ATLAS`` starts it.

The state of every page is in its URL, so that a link or a bookmark opens the same view.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import streamlit as st

import atlas
from atlas.errors import AtlasLocked, NotStored, PolytopeError, UnknownName, UsageError
from atlas.store.catalog import NetworkRecord

from ..shown_atlas import ShownAtlas
from . import address, leaving, moved
from .parts import code, figures, markup, pins, show, terms, tools, tray
from .view import View, explained, failed_before, guarded, survived
from .views import atlas_map, between, between_path, claims, cluster, look, neurons, sql, start

ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
    '<path fill="#0072b2" d="M16 2 28 9v14l-12 7L4 23V9z"/>'
    '<path fill="none" stroke="#fff" stroke-width="1.6" d="M4 9l12 7 12-7M16 16v14M16 2v14"/></svg>'
)

ROOT = "first"
"""The first page is served at the root, whatever its path, and a second time by its name."""

FREE_EVERY = 2.0
"""Seconds between two looks at whether an atlas is still locked."""

PAGES: list[tuple[str, str, str, Callable[[View], None]]] = [
    ("Start", "start", ":material/home:", start.render),
    ("Look", "look", ":material/search:", look.render),
    ("Between", moved.BETWEEN, ":material/compare_arrows:", between.render),
    ("Atlas", "atlas", ":material/scatter_plot:", atlas_map.render),
    ("Neurons", "neurons", ":material/neurology:", neurons.render),
    ("Claims", "claims", ":material/science:", claims.render),
    ("SQL", "sql", ":material/database:", sql.render),
]
"""Title, path, icon and what draws it, in the order of the sidebar."""

OLD: list[tuple[str, str, Callable[[View], None]]] = [
    ("Overview", "overview", moved.to("start", {"about": "true"})),
    ("Example", "example", moved.to("look")),
    ("Search", "search", moved.to("look", by=None)),
    ("Cluster", "cluster", cluster.render),
    ("Clusters", "clusters", cluster.render),
    ("Map", "map", atlas_map.render),
    ("Density", "density", moved.Pair(moved.BETWEEN, {}, moved.ENDS)),
    ("Paths", "paths", moved.to(moved.BETWEEN, {"part": "Path", "path": between_path.SCALE}, **moved.ENDS)),
    ("Slices", "slices", moved.to(moved.BETWEEN, {"part": "Slice"})),
    ("Experiments", "experiments", moved.to("claims")),
]
"""What no sidebar names: the page of a cluster, and addresses of earlier editions, which go on answering: a link to
one opens the same view (`moved.to`)."""


def main(arguments: list[str]) -> None:
    """One run of the script: open the atlas, offer what it holds, draw the page, close it."""
    st.set_page_config(page_title="Polytope atlas", page_icon=ICON, layout="wide")
    st.logo(ICON, size="large")
    st.html(figures.STATIC / "style.css")
    opened: list[View] = []  # filled below: the navigation is there even where the atlas can't be opened
    first, path, icon, render = PAGES[0]
    pages = [st.Page(partial(_draw, render, opened), title=first, url_path=ROOT, icon=icon, default=True)]
    pages += [
        st.Page(partial(_draw, render, opened), title=title, url_path=path, icon=icon)
        for title, path, icon, render in PAGES[1:]
    ]
    pages += [
        st.Page(partial(_draw, render, opened), title=title, url_path=path, visibility="hidden")
        for title, path, render in [(first, path, render), *OLD]
    ]
    page = st.navigation(pages, position="hidden" if tools.embedded() else "sidebar")
    leaving.follow()
    moved.follow({path: render for _, path, render in OLD}.get(page.url_path))
    address.begin()
    terms.begin()
    with code.under(page.title, tools.draw), survived(), explained():
        failed_before()
        pins.begin(page.url_path)
        shown = ShownAtlas.of_words(arguments)
        try:
            with atlas.open(shown.path) as a:
                opened.append(choose(a, shown.read_only))
                tray.draw(opened[0], next(each for each in pages if each.url_path == moved.BETWEEN))
                pins.leave_to_compare()
                figures.begin()
                page.run()
                address.complete()
        except AtlasLocked as error:
            show.error(error)
            _open_once_free(shown.path)


def _draw(render: Callable[[View], None], opened: list[View]) -> None:
    render(opened[0])


def _open_once_free(path: Path) -> None:
    """The page draws itself again when the atlas is not locked any more."""

    @st.fragment(run_every=FREE_EVERY)
    def look() -> None:
        try:
            with atlas.open(path):
                pass
        except AtlasLocked:
            show.notes("This page opens by itself once it is free.")
            return
        except PolytopeError:
            pass  # the page says what else is the matter
        st.rerun()

    look()


def choose(a: atlas.Atlas, read_only: bool) -> View:
    """The sidebar: which atlas this is, which network, and which site or span the pages are about."""
    with tools.aside("choices"):
        place = a.path.resolve() if a.address == str(a.path) else a.address
        st.html(
            f'<div class="pa"><span class="pa-muted">Atlas</span><br><b title="{markup.plain(place)}">'
            f"{markup.plain(Path(place).name)}</b></div>"
        )
        a.catalog.network(a.catalog.networks[0].name if a.catalog.networks else None)  # an empty atlas says so
        firsts = {network.name: _first_choice(a, network) for network in a.catalog.networks}
        names = list(firsts)
        name = address.one_of(
            "Network", names, key="network", first=names[0], on_change=_changed_network, args=(firsts,)
        )
        network = a.catalog.network(name)
        targets = _targets(a, network)
        typed = st.session_state.get("target") or st.query_params.get("target")
        targets += [typed] if typed and typed not in targets else []
        if not typed and targets:  # as in `address.one_of`, which offers nothing that is typed
            st.session_state["target"] = firsts[name]
        target = st.selectbox(
            "Site or span",
            targets,
            index=None,
            key="target",
            bind="query-params",
            accept_new_options=True,
            help="Any span can be typed: `AFTER->TO` for the sites after one up to another, `AFTER->` for all sites "
            "after one.",
        )
        if target:
            address.name("target", target)
        if target and not _is_target(a, network, target):  # a page that needs one says more
            show.notes(f"No such site or span in network {name}")
    return View(a, network, target or "", read_only)


def _is_target(a: atlas.Atlas, network: NetworkRecord, name: str) -> bool:
    try:
        a.catalog.target(site=name, network=network.name)
    except (UnknownName, UsageError):
        return False
    except NotStored:
        pass
    return True


def _targets(a: atlas.Atlas, network: NetworkRecord) -> list[str]:
    """Sites with codes in order of depth, then the spans that were named."""
    sites = [site.name for site in a.catalog.sites_of(network) if site.n_codes]
    return sites + [name for owner, name in a.catalog.spans if owner == network.name]


def _first_choice(a: atlas.Atlas, network: NetworkRecord) -> str:
    """The last position site: what a network makes of an input shows most where it is about to answer."""
    sites = [site for site in a.catalog.sites_of(network) if site.n_codes]
    deep = [site.name for site in sites if site.scope == "position"] or [site.name for site in sites]
    return deep[-1] if deep else ""


@guarded
def _changed_network(firsts: dict[str, str]) -> None:
    """A site of the network before means nothing in this one, and a typed span is no option that would be dropped.
    A list that was emptied begins anew, with the first network."""
    st.session_state["target"] = firsts[st.session_state["network"] or next(iter(firsts))]

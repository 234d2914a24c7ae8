"""What the browser does on every page: following links without loading the explorer anew, keeping code unfolded and
copying it, and fetching what most pages need while someone reads the first."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from .parts.plotly import LOADER, library

# Streamlit loads its scripts and connects again for every link in a page's text, which takes longer than the answer.
# It follows the browser's history within a page, though: so a link becomes a step of that. What is held down with a
# click, or meant for another tab, is left to the browser, and all of them where there is no connection.
#
# Streamlit's own steps are others than what someone did: a widget takes the place of the address that it changes, and
# what the server takes out of an address, or puts in, is a step. Here each click that leads to another address is one
# step, from one address at rest to the next, and what follows from it belongs to it; so does what a page does to its
# address on arrival. Steps from before this script was there, of a page that dropped what was the default anyway, are
# passed over on the way back.
#
# Code that changes with the page comes as another folded block, closed: where one was unfolded, so is the next.
_SCRIPT = (
    LOADER
    + """
const unfolded = new Set();
const folds = () => {
  const met = {};
  return [...document.querySelectorAll("details.pa-code")].map((fold) => {
    const kind = fold.dataset.fold;
    met[kind] = (met[kind] ?? 0) + 1;
    return { fold, name: [location.pathname, kind, met[kind]].join(" ") };
  });
};
export default function ({ data, parentElement }) {
  parentElement.ended?.();  // called again in another theme
  const { pushState: push, replaceState: replace } = history;
  const ours = { atlas: true };
  let touched = false, leaving = false, last = { at: 0, names: "" };
  const different = (to) => {
    const one = new URLSearchParams(location.search), other = to.searchParams;
    const names = new Set([...one.keys(), ...other.keys()]);
    return [...names].filter((name) => String(one.getAll(name)) !== String(other.getAll(name))).sort().join("&");
  };
  const changed = (how) => function (state, unused, address) {
    const to = new URL(address ?? location, location);
    if (to.pathname !== location.pathname) {
      touched = leaving = false;
      return how.call(history, ours, unused, to.href);
    }
    if (leaving) return;
    const names = different(to), at = performance.now();
    const again = names === last.names && at < last.at + data.again;  // a slider that goes on
    const step = touched && names && !again;
    if (touched && names) last = { at, names };
    if (names) touched = false;
    (step ? push : replace).call(history, ours, unused, to.href);
  };
  history.pushState = changed(push);
  history.replaceState = changed(replace);
  if (!history.state?.atlas) replace.call(history, ours, "", location.href);
  const arrived = (event) => {
    touched = leaving = false;
    last = { at: 0, names: "" };
    if (event.state?.atlas || location.hash) return;
    event.stopImmediatePropagation();
    history.back();
  };
  const touch = () => { touched = true; leaving = false; };
  const held = (event) => event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey;
  const linkAt = (event, kind) => event.target instanceof Element && !held(event) ? event.target.closest(kind) : null;
  const leave = (event) => {
    const link = linkAt(event, 'a[data-testid="stSidebarNavLink"]');
    if (!link || link.pathname === location.pathname) return;
    leaving = true;
    if (innerWidth >= data.beside) return;
    setTimeout(() => document.querySelector('[data-testid="stSidebarCollapseButton"] button')?.click());
  };
  const follow = (event) => {
    const link = linkAt(event, ".pa a[href]");
    if (!link || event.defaultPrevented) return;
    if (link.origin !== location.origin || !["", "_self"].includes(link.target)) return;
    if (!document.querySelector('[data-test-connection-state="CONNECTED"]')) return;
    event.preventDefault();
    (link.href === location.href ? replace : push).call(history, ours, "", link.href);
    dispatchEvent(new PopStateEvent("popstate", { state: ours }));
    document.querySelector('[data-testid="stMain"]')?.scrollTo(0, 0);
  };
  const copy = async (event) => {
    const button = event.target instanceof Element ? event.target.closest(".pa-script button") : null;
    if (!button) return;
    const code = button.parentElement.querySelector("code");
    if (navigator.clipboard) {
      await navigator.clipboard.writeText(code.textContent);
    } else {  // a page that came neither encrypted nor from this machine
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  };
  const fold = ({ target }) => {
    const found = folds().find((each) => each.fold === target);
    if (found && target.open) unfolded.add(found.name);
    else if (found) unfolded.delete(found.name);
  };
  const replaced = new MutationObserver(() => {
    if (!unfolded.size) return;
    folds().filter(({ fold, name }) => !fold.open && unfolded.has(name)).forEach(({ fold }) => { fold.open = true; });
  });
  replaced.observe(document.body, { subtree: true, childList: true });
  const heard = [
    [document, "pointerdown", touch], [document, "keydown", touch], [document, "click", leave],
    [document, "click", follow], [document, "click", copy], [document, "toggle", fold], [window, "popstate", arrived],
  ];
  heard.forEach(([where, what, answer]) => where.addEventListener(what, answer, true));
  const ahead = (address, asked) => {
    document.head.append(Object.assign(document.createElement("link"), { href: address, ...asked }));
  };
  const fetching = setTimeout(() => {
    ahead(addressOf(data.plotly), { rel: "preload", as: "script" });
    for (const name of data.tables) {  // as Streamlit asks for it, or it would be fetched twice
      ahead(addressOf(name), { rel: "modulepreload", crossOrigin: "" });
    }
  }, data.after.fetch);
  const running = setTimeout(async () => {
    const Plotly = await plotly(addressOf(data.plotly));
    if (document.querySelector(".pa-figure")) return;  // drawn already, and to purge another would end a drag on it
    // A first figure of WebGL takes 0.2 s more than the next.
    const first = document.createElement("div"), size = { width: 200, height: 200 };
    await Plotly.newPlot(first, [{ type: "scattergl", mode: "markers", x: [0], y: [0] }], size);
    Plotly.purge(first);
  }, data.after.run);
  return parentElement.ended = () => {
    heard.forEach(([where, what, answer]) => where.removeEventListener(what, answer, true));
    replaced.disconnect();
    Object.assign(history, { pushState: push, replaceState: replace });
    clearTimeout(fetching);
    clearTimeout(running);
  };
}
"""
)

TABLES = "DataFrame"
"""A script of Streamlit's, of megabytes."""

AGAIN = 500
"""Milliseconds within which another change of the same belongs to the step before: an arrow key that is held down."""

AFTER = {"fetch": 1000, "run": 3000}
"""Milliseconds of reading after which scripts are fetched, and Plotly is run: its start takes most of the time that a
first figure would take to come, and keeps the browser from all else meanwhile."""


BESIDE = 768
"""Pixels of a window in which the sidebar stands beside the page; in a narrower one it lies over it, and is closed
once another page is chosen there."""


def quicker() -> None:
    """Follow links, copy code, fetch ahead. Takes a line of where it is called."""
    data = {"plotly": library(), "tables": _scripts(TABLES), "after": AFTER, "beside": BESIDE, "again": AGAIN}
    _listener()(data=data, key="browser", height=0)


@cache
def _scripts(name: str) -> list[str]:
    """Under the names that they bear in the Streamlit that runs; none where it keeps them elsewhere."""
    folder = Path(st.__file__).parent / "static" / "static" / "js"
    return sorted(f"static/js/{path.name}" for path in folder.glob(f"{name}.*.js"))


@cache
def _listener() -> Any:
    return st.components.v2.component("polytope_browser", html="<span hidden></span>", js=_SCRIPT)

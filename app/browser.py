"""What the browser does on every page: following links without loading the explorer anew, keeping code unfolded and
copying it, and fetching what most pages need while someone reads the first."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from app.drawing import LOADER, library

# Streamlit loads its scripts and connects again for every link in a page's text, which takes longer than the answer.
# It follows the browser's history within a page, though: so a link becomes a step of that. What is held down with a
# click, or meant for another tab, is left to the browser, and all of them where there is no connection.
#
# Streamlit also makes a step of every change that the server makes to an address: where what is the default anyway is
# taken out of one that was opened, or the state of a page from that of the next. Whoever goes back would stay where
# they are. A step is what someone did on the page; what a page does to its address on arrival belongs to the arrival.
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
  const push = history.pushState;
  let touched = false, leaving = false;
  history.pushState = function (state, unused, address) {
    const stays = new URL(address ?? location, location).pathname === location.pathname;
    if (stays && leaving) return;
    if (stays && !touched) return history.replaceState(state, unused, address);
    if (!stays) touched = leaving = false;
    push.call(history, state, unused, address);
  };
  const arrived = () => { touched = leaving = false; };
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
    push.call(history, {}, "", link.href);
    dispatchEvent(new PopStateEvent("popstate", { state: {} }));
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
    history.pushState = push;
    clearTimeout(fetching);
    clearTimeout(running);
  };
}
"""
)

TABLES = "DataFrame"
"""A script of Streamlit's, of megabytes."""

AFTER = {"fetch": 1000, "run": 3000}
"""Milliseconds of reading after which scripts are fetched, and Plotly is run: its start takes most of the time that a
first figure would take to come, and keeps the browser from all else meanwhile."""


BESIDE = 768
"""Pixels of a window in which the sidebar stands beside the page; in a narrower one it lies over it, and is closed
once another page is chosen there."""


def quicker() -> None:
    """Follow links, copy code, fetch ahead. Takes a line of where it is called."""
    data = {"plotly": library(), "tables": _scripts(TABLES), "after": AFTER, "beside": BESIDE}
    _listener()(data=data, key="browser", height=0)


@cache
def _scripts(name: str) -> list[str]:
    """Under the names that they bear in the Streamlit that runs; none where it keeps them elsewhere."""
    folder = Path(st.__file__).parent / "static" / "static" / "js"
    return sorted(f"static/js/{path.name}" for path in folder.glob(f"{name}.*.js"))


@cache
def _listener() -> Any:
    return st.components.v2.component("polytope_browser", html="<span hidden></span>", js=_SCRIPT)

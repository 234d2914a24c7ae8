"""What the browser does on every page: copying code, and fetching what most pages need while one reads the first."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

_SCRIPT = """
export default function ({ data }) {
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
  document.addEventListener("click", copy);
  const base = document.querySelector('script[type="module"][src*="/static/js/"]')?.src;
  const fetching = base && setTimeout(() => {
    for (const name of data.fetched) {
      const script = document.createElement("link");
      script.rel = "modulepreload";
      script.crossOrigin = "";  // as Streamlit asks for it, or it would be fetched twice
      script.href = new URL(name, base);
      document.head.append(script);
    }
  }, data.after.fetch);
  const running = base && setTimeout(() => data.run.forEach((name) => import(new URL(name, base))), data.after.run);
  return () => {
    document.removeEventListener("click", copy);
    clearTimeout(fetching);
    clearTimeout(running);
  };
}
"""

FIGURES, TABLES = "PlotlyChart", "DataFrame"
"""Scripts of Streamlit's, of megabytes."""

AFTER = {"fetch": 1000, "run": 3000}
"""Milliseconds of reading after which the scripts are fetched, and the one for figures is run: its start takes most
of the time that a first figure would take to come, and keeps the browser from all else meanwhile."""


def quicker() -> None:
    """Copy code, fetch ahead. Takes a line of where it is called."""
    fetched = [*_scripts(FIGURES), *_scripts(TABLES)]
    _listener()(data={"fetched": fetched, "run": _scripts(FIGURES), "after": AFTER}, key="browser", height=0)


@cache
def _scripts(name: str) -> list[str]:
    """Under the names that they bear in the Streamlit that runs; none where it keeps them elsewhere."""
    folder = Path(st.__file__).parent / "static" / "static" / "js"
    return sorted(path.name for path in folder.glob(f"{name}.*.js"))


@cache
def _listener() -> Any:
    return st.components.v2.component("polytope_browser", html="<span hidden></span>", js=_SCRIPT)

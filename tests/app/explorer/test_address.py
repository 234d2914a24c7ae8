"""What an address asks for and there is not, said by the sidebar and by widgets, without a browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

TEXT, SITE = "demo-gpt2", "blocks.2.mlp"
IMAGE, IMAGE_SITE = "demo-inceptionv1", "inception5b"
LAST = {TEXT: "blocks.3.mlp", IMAGE: IMAGE_SITE}
"""What the sidebar begins with."""

PATIENCE = 120.0
"""Seconds for a run: the first imports the explorer."""


def sidebar(path: str) -> None:
    from pathlib import Path

    import streamlit as st

    import atlas
    from app.explorer.main import choose

    with atlas.open(Path(path)) as a:
        view = choose(a, read_only=True)
    st.session_state["chosen"] = view.network.name, view.target


def sql_page(path: str, network: str, target: str) -> None:
    from pathlib import Path

    import atlas
    from app.explorer.view import View
    from app.explorer.views import sql

    with atlas.open(Path(path)) as a:
        sql.render(View(a, a.catalog.network(network), target))


def sql_page_of_sidebar(path: str) -> None:
    from pathlib import Path

    import atlas
    from app.explorer.main import choose
    from app.explorer.views import sql

    with atlas.open(Path(path)) as a:
        sql.render(choose(a, read_only=True))


def dependent_widgets() -> None:
    """What the one shows at first is said by the other."""
    import streamlit as st

    from app.explorer import address

    first = st.selectbox("Of", ["a", "b", "c"], key="of")
    address.one_of("X", ["a", "b", "c", "d"], key="x", first=first)


def other_widgets() -> None:
    """As on two pages, which have widgets of one key."""
    import streamlit as st

    from app.explorer import address

    if st.checkbox("other", key="other"):
        address.number("X", 0, 10, 3, key="x")
    else:
        address.one_of("X", ["a", "b"], key="x", first="a")


def opened(page: Any, *args: str, **address: str) -> AppTest:
    app = AppTest.from_function(page, args=args, default_timeout=PATIENCE)
    for name, value in address.items():
        app.query_params[name] = value
    ran(app)
    return app


def ran(app: AppTest) -> None:
    app.run()
    assert not app.exception


def said(app: AppTest) -> list[str]:
    """The sentences about the address."""
    shown = [html.value.partition(">")[2].removesuffix("</div>") for html in app.get("html")]
    return [words.removeprefix("the address asks for ") for words in shown if words.startswith("the address asks")]


def notes(app: AppTest) -> list[str]:
    """The sentences of notes, in which terms may be marked."""
    return [re.sub(r"<[^>]*>", "", html.value) for html in app.get("html") if "pa-note" in html.value]


def test_an_unknown_network_is_said(demo_atlas: Path):
    app = opened(sidebar, str(demo_atlas), network="nonesuch")
    sentence = f"network nonesuch; expected one of {IMAGE}, {TEXT}; shown is {IMAGE}"
    assert said(app) == [sentence] and app.session_state["chosen"] == (IMAGE, LAST[IMAGE])
    ran(app)
    assert said(app) == [sentence], "for as long as that is shown"
    app.selectbox(key="network").select(TEXT)
    ran(app)
    assert said(app) == [] and app.session_state["chosen"] == (TEXT, LAST[TEXT])


def test_another_network_changes_the_target(demo_atlas: Path):
    """A change of network changes the target."""
    app = opened(sidebar, str(demo_atlas), network=TEXT, target=SITE)
    assert said(app) == [] == notes(app) and app.session_state["chosen"] == (TEXT, SITE)
    app.selectbox(key="network").select(IMAGE)
    ran(app)
    assert said(app) == [] == notes(app) and app.session_state["chosen"] == (IMAGE, LAST[IMAGE])


def test_an_emptied_network_is_the_first(demo_atlas: Path):
    """Streamlit puts a × into a list that has no default of its own."""
    app = opened(sidebar, str(demo_atlas), network=TEXT, target=SITE)
    app.selectbox(key="network").set_value(None)
    ran(app)
    assert said(app) == [] == notes(app) and app.session_state["chosen"] == (IMAGE, LAST[IMAGE])


def test_defaults_follow_what_is_shown():
    """The address does not name it, so it must show the same to who opens it."""
    app = opened(dependent_widgets)
    for first in ("b", "c", "a"):
        app.selectbox(key="of").select(first)
        ran(app)
        assert app.selectbox(key="x").value == first
    app.selectbox(key="x").select("d")
    ran(app)
    app.selectbox(key="of").select("b")
    ran(app)
    assert app.selectbox(key="x").value == "d", "chosen"


def test_the_first_query_follows_the_sidebar(demo_atlas: Path):
    """The query that the sql page begins with follows the sidebar until it is edited."""
    app = opened(sql_page_of_sidebar, str(demo_atlas), network=TEXT)
    assert f"network = '{TEXT}'" in app.text_area(key="query").value
    app.selectbox(key="network").select(IMAGE)
    ran(app)
    assert f"network = '{IMAGE}' and site = '{IMAGE_SITE}'" in app.text_area(key="query").value
    app.text_area(key="query").set_value("select 42 as answer")
    ran(app)
    app.selectbox(key="network").select(TEXT)
    ran(app)
    assert app.text_area(key="query").value == "select 42 as answer"


@pytest.mark.parametrize("target", ["blocks.0.mlp->blocks.2.mlp", "blocks.1.mlp→"])
def test_any_span_may_be_typed(demo_atlas: Path, target: str):
    app = opened(sidebar, str(demo_atlas), network=TEXT, target=target)
    assert said(app) == [] == notes(app) and app.session_state["chosen"] == (TEXT, target)


@pytest.mark.parametrize("target", ["<b>none</b>", "blocks.9.mlp->", "blocks.3.mlp->", "->"])
def test_what_is_no_site_or_span_is_noted(demo_atlas: Path, target: str):
    """Pages that need one say more; the others would say nothing."""
    app = opened(sidebar, str(demo_atlas), network=TEXT, target=target)
    [note] = notes(app)
    assert f"No such site or span in network {TEXT}" in note
    assert said(app) == [] and app.session_state["chosen"] == (TEXT, target)


def test_an_unknown_networks_site_is_noted(demo_atlas: Path):
    """A site of an unknown network is noted."""
    app = opened(sidebar, str(demo_atlas), network="nonesuch", target=SITE)
    assert len(said(app)) == 1 and len(notes(app)) == 1 and app.session_state["chosen"] == (IMAGE, SITE)


def test_the_sql_page_names_what_it_refuses(demo_atlas: Path):
    """The sql page says what its widgets cannot hold."""
    asked = {"limit": "0", "timeout": "301", "table": "none", "show": "Pie", "query": " "}
    app = opened(sql_page, str(demo_atlas), TEXT, SITE, **asked)
    assert [sentence.partition("; expected")[0] for sentence in said(app)] == [
        "limit 0",
        "timeout 301",
        "table none",
    ]
    assert "limit 0; expected a whole number from 1 to 10,000; shown is 1000" in said(app)
    assert "timeout 301; expected a whole number from 1 to 300; shown is 30" in said(app)
    held = opened(sql_page, str(demo_atlas), TEXT, SITE, limit="7", timeout="300", table="sites", query=" ")
    assert said(held) == []
    assert [held.number_input(key=key).value for key in ("limit", "timeout")] == [7, 300]


def test_a_chart_names_its_columns(demo_atlas: Path):
    """A chart says which columns there are."""
    text = "select label, count(*) as n from examples group by label"
    app = opened(sql_page, str(demo_atlas), TEXT, SITE, query=text, show="Chart", x="loss", y="n", by="taste")
    while not app.get("bidi_component"):  # the first query starts a process
        ran(app)
    assert said(app) == [
        "x loss; expected one of label, n; shown is label",
        "by taste; expected one of (none), label; shown is (none)",
    ]


def test_values_of_another_page_go():
    """What a widget of another page held is replaced."""
    app = opened(other_widgets)
    app.selectbox(key="x").select("b")
    ran(app)
    app.checkbox(key="other").check()
    ran(app)
    assert app.number_input(key="x").value == 3
    app.checkbox(key="other").uncheck()
    ran(app)
    assert app.selectbox(key="x").value == "a" and said(app) == []

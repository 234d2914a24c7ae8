"""What is pinned stands in the sidebar of every page, in the address and in the session."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Button

import atlas
from app.explorer.parts import pin
from app.explorer.parts.pin import LINK_LIMIT, Pin
from atlas.errors import NotStored, UsageError
from query.clustering.clusterings import latest_clustering
from tests.app.explorer.browsing import IN_BROWSER, OpenPage, address, address_says, answered, drawn, eventually
from tests.app.explorer.running import LASTING, computed, errors, opened, press, words
from tests.app.explorer.views_by_hand import SITE, TEXT

IMAGE = "demo-inceptionv1"
TOKENS = ("The", " bank", " of")


@pytest.mark.parametrize(
    "made",
    [
        pin.example(17),
        pin.cluster(4, -1),
        pin.vector([0.25, -1e-7], "two-moons"),
        pin.token("The bank of", TOKENS, 1, TEXT),
        pin.token("a\nb: c", ("a", "\n", "b: c"), 1, "a: net@work"),
        Pin("token", "4:9:1:The bank of"),
        Pin("image", "0123456789abcdef"),
    ],
)
def test_a_pin_is_read_as_it_was_written(made: Pin):
    assert Pin.read(made.word) == made and "bank" not in made.word.replace("The bank of", "")


@pytest.mark.parametrize(
    "word",
    [
        *(
            "",
            "example",
            "example:",
            "example:-1",
            "example:1.5",
            "example:017",
            "cluster:4",
            "cluster:4:-2",
            "smell:1",
        ),
        *(
            "token:3:2:0:abc",
            "token:0:9:0:abc",
            "token:0:1:abc",
            "vector:a",
            "vector:,",
            "image:../../etc",
            "text:1:2:3",
            "example@words:1",
            "token@:0:1:0:abc",
        ),
    ],
)
def test_what_is_no_pin_is_refused(word: str):
    with pytest.raises(UsageError, match=r"expected one of|without a network|not inside its text|write numbers"):
        Pin.read(word)


def test_a_pin_is_an_argument_of_questions():
    assert Pin.read("17").subject == {"example": 17}
    assert pin.token("The bank of", TOKENS, 1, TEXT).subject == {"text": "The bank of", "token": 1}
    assert pin.vector([0.5, 2.0], "two-moons").subject == {"vector": (0.5, 2.0)}
    assert pin.image(b"a file", IMAGE).subject == {"image": b"a file"}
    with pytest.raises(UsageError, match="one of its members"):
        _ = pin.cluster(4, 12).subject


def test_what_is_shown_is_compared_with_pins(built: Path):
    """Offered of what is not pinned, where something of its sort is."""

    def offered(page: str = "look", **state: object) -> list[str]:
        labels = [button.label for button in opened(built, page, network="words", **state).button]
        return [label for label in labels if label.startswith("Compare")]

    here: dict[str, object] = {"target": "blocks.2.mlp", "example": 20}
    assert offered(**here) == offered(**here, pin="example:20") == offered(**here, pin="cluster:1:0") == []
    assert offered(**here, pin=["cluster:1:0", "example:21"]) == ["Compare with the pin"]
    assert offered(**here, pin=["example:21", "example:22"]) == ["Compare with the pins"]


def test_a_long_text_is_kept_and_missed():
    text = "word " * LINK_LIMIT
    kept = pin.token(text, ("word", " " + text[5:]), 0, TEXT)
    assert kept.kind == "text" and len(kept.word) < 80 and kept.text == text
    with pytest.raises(NotStored, match="not kept any more"):
        _ = Pin("text", f"0:4:0:{'0' * 16}").text


def test_the_tray_shows_pins_of_an_address(demo_atlas: Path):
    """What is gone is told, and what is no pin."""
    given = ["example:101", "999999", "cluster:1:999", "smell:3", "token:4:9:1:The bank of"]
    app = opened(demo_atlas, "sql", network=TEXT, target=SITE, pin=given)
    assert "999999: no example 999999 in" in words(app) and "no cluster 999 in clustering 1" in words(app)
    assert errors(app) == [f"the address pins smell:3: {error_of('smell:3')}"]
    named = ["example:101", "example:999999", "cluster:1:999", "token:4:9:1:The bank of"]
    assert app.session_state["named-in-address"]["pin"] == named


def test_pins_of_other_networks_are_grey(demo_atlas: Path):
    """They name their network, lead there, and are not compared; what an old address pins of a text is of a network
    that reads texts."""
    number = clustering_of(demo_atlas)
    given = ["example:2", f"cluster:{number}:0", f"token@{TEXT}:4:9:1:The bank of", "token:4:9:1:The bank of"]
    tray = tray_of(opened(demo_atlas, "sql", network=IMAGE, pin=[*given, "vector:0.3,1.2"]))
    rows = tray.split("<li")[1:]
    assert ["pa-elsewhere" in row for row in rows] == [False, True, True, True, False]
    assert all(f"of {TEXT}" in row and f"network={TEXT}" in row and "target=incep" not in row for row in rows[1:4])
    assert "of kind vector" in rows[4] and "compare them there" not in tray
    tray = tray_of(opened(demo_atlas, "sql", network=IMAGE, pin=101))
    assert f"1 pin is of {TEXT}: " in tray and "compare it there" in tray, "in place of what compares"


def clustering_of(path: Path) -> int:
    """The newest of the site."""
    with atlas.open(path) as a:
        return latest_clustering(a, a.catalog.target(site=SITE, network=TEXT)).clustering_id


def tray_of(app: AppTest) -> str:
    [tray] = [part.value for part in app.html if "pa-tray" in part.value]
    return tray


def test_a_pin_of_another_is_not_offered(demo_atlas: Path):
    def offered(pinned: int) -> list[str]:
        app = opened(demo_atlas, "look", network=TEXT, target=SITE, example=101, pin=pinned)
        return [button.label for button in app.button if button.label.startswith("Compare")]

    assert offered(140) == ["Compare with the pin"] and offered(2) == []


def test_what_a_text_pins_names_its_network(demo_atlas: Path):
    app = opened(demo_atlas, "look", network=TEXT, target=SITE, text="import asyncio")
    app = press(app, "Pin")
    assert str(app.query_params["pin"]).startswith(f"token@{TEXT}:")


def error_of(word: str) -> str:
    with pytest.raises(UsageError, match="expected one of") as refused:
        Pin.read(word)
    return str(refused.value)


def _page(name: str) -> None:
    import streamlit as st

    from app.explorer.parts import pin, pins

    pins.begin(st.session_state.get("page", name))
    for number in range(1, 15):
        pins.button(pin.example(number), pins.pinned())


def pin_buttons(app: AppTest) -> list[Button]:
    """Those beside which another may stand that compares."""
    return [button for button in app.button if button.label in ("Pin", "Pinned")]


def test_pins_follow_from_page_to_page():
    app = AppTest.from_function(_page, args=("one",), default_timeout=LASTING)
    app.run()
    for place in (0, 4):
        pin_buttons(app)[place].click()
        computed(app)
    assert app.query_params["pin"] == ["example:1", "example:5"]
    app.session_state["page"] = "two"
    app.query_params.clear()  # as Streamlit does on the way to another page
    computed(app)
    assert [place for place, button in enumerate(pin_buttons(app)) if button.label == "Pinned"] == [0, 4]
    app.query_params["pin"] = ["example:2"]  # back to an address, or another one
    computed(app)
    assert [place for place, button in enumerate(pin_buttons(app)) if button.label == "Pinned"] == [1]
    pin_buttons(app)[1].click()
    computed(app)
    assert "pin" not in app.query_params and not [b for b in app.button if b.label == "Pinned"]


def test_the_tray_has_an_end():
    app = AppTest.from_function(_page, args=("one",), default_timeout=LASTING)
    app.run()
    for place in range(13):
        pin_buttons(app)[place].click()
        app.run()
    assert len(app.query_params["pin"]) == 12
    assert app.session_state["callback-failed"].startswith("12 things are pinned already")


class TestInABrowser:
    pytestmark = IN_BROWSER

    def test_a_sign_pins_and_links_carry_it(self, server: str, open_page: OpenPage):
        """A sign beside an example pins it; any link of the page takes it along."""
        page = open_page(address(server, "look", network=TEXT, target=SITE, k=3))
        answered(page)
        sign = page.locator(".pa td .pa-pin").first
        name = sign.get_attribute("data-pin")
        sign.click()
        tray = page.locator(".pa-tray")
        eventually(page, lambda: tray.locator(".pa-pin").get_attribute("data-pin"), name)
        link = page.locator(".pa td:has(.pa-pin) a").last
        other = link.inner_text()
        link.click()
        address_says(page, example=other)
        drawn(page)
        assert tray.locator(".pa-pin").get_attribute("data-pin") == name and "pin=" in page.url
        tray.locator(".pa-pin").click()
        eventually(page, lambda: tray.locator(".pa-pin").count(), 0)

    def test_what_is_unpinned_stays_so(self, server: str, open_page: OpenPage):
        """Also in the address of a page that a link of the sidebar led to."""
        page = open_page(address(server, "sql", network=TEXT, target=SITE, pin=[101, 140]))
        answered(page)
        page.get_by_role("link", name="Compare").click()
        page.get_by_role("heading", name="Between", exact=True).wait_for()
        address_says(page, pin="example:140")
        answered(page)
        page.get_by_role("button", name="Unpin all").click()
        eventually(page, lambda: page.locator(".pa-tray .pa-pin").count(), 0)
        address_says(page, pin=None)
        answered(page)
        page.get_by_text("Slice", exact=True).click()
        address_says(page, part="Slice", pin=None)
        answered(page)
        assert page.locator(".pa-tray .pa-pin").count() == 0

"""The search page: what it shows is what the query layer answers."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

from PIL import Image
from sklearn.datasets import load_digits
from streamlit.testing.v1 import AppTest

import atlas
import query
from app.explorer.parts.box import LINK_LIMIT
from app.explorer.parts.pin import Pin
from app.explorer.views.look import UNSEEN
from ingest.datasets.sources import open_dataset
from ingest.run.plan import Choices
from ingest.run.run import ingest
from tests.app.explorer.running import column, computed, errors, ids, opened, press, scripts, words
from tests.networks import shipped

TEXT, SITE = "demo-gpt2", "blocks.2.mlp"
IMAGE, FULL_SITE = "demo-inceptionv1", "inception5b:full"

NEAREST = -1
"""The place of the table of nearest polytopes: the last."""


def test_an_examples_search_is_the_querys(demo_atlas: Path):
    """From an example the rows of the query."""
    with atlas.open(demo_atlas) as a:
        example = a.value("select max(example_id) from examples where network_id = 2") - 3
        found = query.nearest(a, example=example, site=SITE, network=TEXT, k=7)
        where = query.membership(a, example=example, site=SITE, network=TEXT)
        assert found["distance"].min() > 0
    app = opened(demo_atlas, "look", network=TEXT, target=SITE, example=example, k=7)
    assert errors(app) == []
    assert column(app, 2, NEAREST) == [f"{distance:,}" for distance in found["distance"]]
    assert ids(app) == found["example_id"].tolist()
    lies = "lies in no cluster" if where.cluster < 0 else f" #{where.cluster} of clustering"
    assert found.attrs["exact_note"][1:] in words(app) and lies in words(app)
    assert "In the same polytope: 0" in [heading.value for heading in app.header]
    [sql] = [script for script in scripts(app, "sql") if "hamming" in script]
    with atlas.open(demo_atlas) as a:
        assert query.sql(a, sql)["example_id"].tolist() == found["example_id"].tolist()
    app.number_input(key="k").set_value(4)
    assert ids(computed(app)) == found["example_id"].tolist()[:4]


def test_filters_are_part_of_the_search(demo_atlas: Path):
    wanted = {"label": "3", "where": "loss < 1"}
    with atlas.open(demo_atlas) as a:
        found = query.nearest(a, example=5, site=FULL_SITE, network=IMAGE, k=3, radius=300, **wanted)
    state = {"network": IMAGE, "target": FULL_SITE, "example": 5, "k": 3, "radius": 300}
    app = opened(demo_atlas, "look", **state, **wanted)
    assert errors(app) == [] and ids(app) == found["example_id"].tolist()
    assert any(f"of {found.attrs['n_searched']:,} of 100 codes" in heading.value for heading in app.header)
    app.text_input(key="where").set_value("nonsense = 1")
    assert "where is 'nonsense = 1'" in errors(computed(app))[0]
    app.text_input(key="where").set_value("")
    assert errors(computed(app)) == []
    nobody = opened(demo_atlas, "look", **state, label="no such label")
    assert "has label 'no such label'" in errors(nobody)[0]
    assert "has label 'no such label'" in errors(computed(nobody))[0], "however often the page is drawn"


def test_sharers_of_a_polytope_stand_apart(demo_atlas: Path):
    """Of the fullest polytope, which holds more than are asked for."""
    with atlas.open(demo_atlas) as a:
        example, n, network, site = a.rows(
            "select first_example, occupancy, network, site from polytopes order by occupancy desc, 1 limit 1"
        )[0]
        found = query.nearest(a, example=example, site=site, network=network, k=n - 1 + 4)
    assert n - 1 > 4 and (found["distance"] > 0).sum() == 4
    app = opened(demo_atlas, "look", network=network, target=site, example=example, k=4)
    assert f"In the same polytope: {n - 1:,}" in [heading.value for heading in app.header]
    same, outside = (found[found["distance"] == 0], found[found["distance"] > 0])
    assert ids(app) == [*same["example_id"][:24], *outside["example_id"]]


def test_search_from_a_pasted_text(demo_atlas: Path):
    text = "import asyncio\n\nasync def main() -> None:\n    await"
    reader = shipped("demo:gpt2")
    n_tokens = len(reader.tokenize(text).ids)
    for token in (n_tokens - 1, 0):
        with atlas.open(demo_atlas) as a:
            asked = {"text": text, "token": token, "site": SITE, "network": TEXT, "reader": reader}
            found, where = query.nearest(a, **asked), query.membership(a, **asked)
        app = opened(demo_atlas, "look", network=TEXT, target=SITE, text=text, token=token)
        assert errors(app) == [] and len(app.get("button_group")[-1].options) == n_tokens
        assert ids(app) == found["example_id"].tolist()
        densities = [f"{density:#.4g}" for density in found["density"][found["distance"] > 0]]
        assert column(app, 4, NEAREST) == densities
        lies = "would lie in no cluster" if where.cluster < 0 else rf"would lie in cluster .*#{where.cluster} "
        assert re.search(lies, words(app)) and len(stops(app)) == 4
    app.chat_input[0].set_value("x = 1\n" * (1 + LINK_LIMIT // 6))
    assert "too long for a link" in words(computed(app)) and "text" not in app.query_params


def stops(app: AppTest) -> list[str]:
    """The sites at which the page says in which cluster something lies."""
    return re.findall(r"<li[^>]*><small>(.*?)</small>", "".join(part.value for part in app.html))


def test_a_token_that_is_not_seen_has_a_sign(demo_atlas: Path):
    text = "a\u202eb   "
    app = opened(demo_atlas, "look", network=TEXT, target=SITE, text=text, token=4)
    assert errors(app) == [] and "Token 4 ('␣␣␣') of the text" in words(app)
    signs = [option.content for option in app.get("button_group")[-1].proto.options]
    signs = [sign.replace(UNSEEN, "") for sign in signs]
    assert signs == ["a", "‹RLO›", "‹RLO›", "b", "␣␣␣"], "two tokens have each a part of its bytes"


def test_a_token_that_comes_again_is_chosen(demo_atlas: Path):
    """Each of three equal tokens is chosen, named by the address, opened by it and pinned."""
    here = {"network": TEXT, "target": SITE, "text": "if x == x or x:\n"}
    strings = token_texts(here["text"])
    places = [place for place, string in enumerate(strings) if string == " x"]
    assert len(places) == 3
    app = opened(demo_atlas, "look", **here)
    for place in places:
        for shown in (lit(app, place), opened(demo_atlas, "look", **here, token=place)):
            assert errors(shown) == [] and f"Token {place} ('␣x') of the text" in words(shown)
            assert pills(shown).indices == [place] and "".join(shown.query_params["token"]) == str(place)
        press(app, "Pin")
    assert [Pin.read(word).token for word in app.session_state["pins"]] == places


def test_the_end_of_a_line_is_not_chosen(demo_atlas: Path):
    """Of a text the last token that is not only white space is chosen first, and numbered as the field says."""
    text = "import asyncio\n  \n"
    strings = token_texts(text)
    last = max(place for place, string in enumerate(strings) if string.strip())
    assert last < len(strings) - 1
    app = opened(demo_atlas, "look", network=TEXT, target=SITE, text=text)
    assert pills(app).indices == [last] and pills(app).proto.label == f"Token (0 to {len(strings) - 1})"
    blank = opened(demo_atlas, "look", network=TEXT, target=SITE, text="\n\n")
    assert errors(blank) == [] and pills(blank).indices == [len(token_texts("\n\n")) - 1]


def token_texts(text: str) -> list[str]:
    tokens = shipped("demo:gpt2").tokenize(text)
    return [text[start:end] for start, end in zip(tokens.starts, tokens.ends, strict=True)]


def pills(app: AppTest) -> Any:
    """The tokens to choose from."""
    return app.get("button_group")[-1]


def lit(app: AppTest, place: int) -> AppTest:
    """A click on a token."""
    pills(app).select(place)
    return computed(app)


def digit(place: int) -> bytes:
    """One of scikit-learn's digits as a file."""
    encoded = io.BytesIO()
    Image.fromarray((load_digits().images[place] * 255 / 16).astype("uint8")).save(encoded, "PNG")
    return encoded.getvalue()


def test_an_upload_of_no_picture_is_refused(demo_atlas: Path):
    """An upload that is no picture is refused."""
    app = opened(demo_atlas, "look", network=IMAGE, target=FULL_SITE)
    huge = io.BytesIO()
    Image.new("1", (6000, 6000)).save(huge, "PNG")  # 5 kB that unpack to 36 million pixels
    for name, data, said in (
        ("broken.png", b"\x89PNG no more", "broken.png is no JPEG, PNG"),
        ("huge.png", huge.getvalue(), "huge.png has 6000 x 6000 pixels; at most 25,000,000"),
    ):
        app.file_uploader[0].set_value((name, data, "image/png"))
        assert said in errors(computed(app))[0]


def test_a_stored_upload_says_which_example(tmp_path: Path):
    """And that example has its code; the same pixels in another file are not known."""
    path, folder = tmp_path / "files.atlas", tmp_path / "files"
    folder.mkdir()
    for place in (3, 4, 5):
        (folder / f"{place}.png").write_bytes(digit(place))
    files = open_dataset(str(folder), kind="image")
    ingest(path, shipped("demo:inceptionv1"), files, Choices(sites=("inception5b",)), cluster=False)
    with atlas.open(path) as a:
        of_file = "select example_id from examples join dataset_inputs using (input_id) where key = '4.png'"
        example = a.value(of_file)
    app = opened(path, "look", network=IMAGE)
    for data, known in ((digit(4), True), (digit(4) + b"\0", False)):
        app.file_uploader[0].set_value(("<b>four</b>.png", data, "image/png"))
        computed(app)
        assert "<b>four</b>.png" in words(app)
        assert (f"stored as example {example}" in words(app)) == known == ("stored as" in words(app))
        shared, _ = (part.value for part in app.html if "pa-grid" in part.value)
        assert re.findall(r"example=(\d+)", shared) == [str(example)]


def test_a_token_the_text_lacks_is_refused(demo_atlas: Path):
    """A token that the text lacks is refused."""
    here = {"network": TEXT, "target": SITE, "text": "import asyncio"}
    for token in ("99", "<b>"):
        [sentence] = errors(opened(demo_atlas, "look", **here, token=token))
        assert sentence.startswith(f"the address asks for token {token}; expected a token of this text, 0 to ")

"""What is published is what the network did, each row with the example that it belongs to."""

import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import atlas
from atlas.network import FULL_SUFFIX, ImageView, Network, TokenWindow
from atlas.store import digests
from atlas.store.atlas import Atlas
from ingest.datasets.base import Item
from ingest.datasets.builtin import python_texts
from ingest.datasets.sources import open_dataset
from ingest.run import publish
from ingest.run.plan import Choices
from ingest.run.run import ingest
from ingest.run.sampling import ImageSampling, TokenSampling
from tests.ingest.generated import Noise, NoisyNetwork
from tests.ingest.runs import SITES, SMALL, rows, small_run, write_texts
from tests.networks import PixelNetwork, pixel_images, shipped, word_network, word_texts


def reading_of(network: Network, work: TokenWindow | ImageView) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Packed code and activation of every site for one example, read alone."""
    reading = network.read([work], network.sites, network.sites)
    return {site.name: (reading.codes[site.name][0], reading.activations[site.name][0]) for site in network.sites}


def stored(a: Atlas, network: Network) -> dict[int, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """The same out of the atlas, by example id."""
    found: dict[int, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for site in a.catalog.sites_of(a.catalog.network(network.info.name)):
        if site.n_codes:
            ids, codes = a.codes([site])
            same, activations = a.activations(site)
            assert (ids == same).all()
            for example, code, activation in zip(ids, codes.packed, activations, strict=True):
                found.setdefault(int(example), {})[site.name] = code, activation
    return found


def check_equal(got: dict, expected: dict, sites: set[str]) -> None:
    assert set(got) == sites
    for site in sites:
        assert (got[site][0] == expected[site][0]).all(), site
        np.testing.assert_array_equal(got[site][1], expected[site][1].astype(np.float32), err_msg=site)


def test_every_row_belongs_to_its_example(tmp_path: Path) -> None:
    """Twelve texts in six shards, of which one is no UTF-8, one too short, and two repeat the first."""
    network, made = word_network(), word_texts(10)
    made += [("metal/again.txt", "metal", made[0][2]), ("river/again.txt", "river", made[0][2])]
    made += [("metal/00.txt", "metal", "metal1 metal2")]
    data = write_texts(tmp_path / "words", made)
    (data / "fruit" / "00.txt").write_bytes(b"fruit1 \xff fruit2")
    choices = replace(SMALL, sites=None, spans=(), shard_examples=8, skip_bad=True)
    outcome = small_run(tmp_path / "a", data, choices, cluster=False)
    assert {key for key, _ in outcome.bad} == {"fruit/00.txt", "metal/00.txt"}
    assert len(outcome.plan.shards) == 6 and outcome.n_examples == 48
    with atlas.open(tmp_path / "a") as a:
        found = stored(a, network)
        rows = a.records("from examples join inputs using (input_id) order by example_id")
        assert len(rows) == len(found) == 40 and len({(row["input_id"], row["position"]) for row in rows}) == 40
        labels = {key: key.split("/")[0] for key, _, _ in made}
        keys = dict(a.rows("select input_id, first(key order by ordinal) from dataset_inputs group by all"))
        for row in rows:
            check_text_row(row, labels[keys[row["input_id"]]])
            ids, words = network.tokenize(row["text"]).ids, network.windows(12)
            window = next(window for window in words if row["position"] in window)
            work = TokenWindow(ids[window.start : window.stop], np.array([row["position"] - window.start]))
            check_equal(found[row["example_id"]], reading_of(network, work), set(SITES))
            assert row["prediction"] == network.read([work], network.sites, []).prediction[0]
        assert a.rows("select n_bad from runs") == [(2,)]
        assert {key for (key,) in a.rows("select key from bad_inputs")} == {"fruit/00.txt", "metal/00.txt"}


def test_shards_say_what_they_brought(tmp_path: Path) -> None:
    """Of a text that occurs twice the second brings nothing; nor does any of a run that reads the same again."""
    made = word_texts(5)
    data = write_texts(tmp_path / "words", [*made, ("river/again.txt", "river", made[0][2])])
    small_run(tmp_path / "a", data, replace(SMALL, shard_examples=8), cluster=False)
    small_run(tmp_path / "a", data, replace(SMALL, shard_examples=8, seed=1), cluster=False)
    with atlas.open(tmp_path / "a") as a:
        assert a.rows("from shards order by run_id, shard") == [
            (1, 0, "cpu", 8, 1, 8),
            (1, 1, "cpu", 8, 9, 16),
            (1, 2, "cpu", 8, 17, 20),
            *((2, shard, "cpu", 8, None, None) for shard in range(3)),
        ]


def test_an_append_reads_one_piece_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 24 examples and 12 more, in pieces of 16 ids, only the piece that both are in; all of a site whose pieces
    are not known. Digests are those of the same examples in one run."""
    for module in (digests, publish):
        monkeypatch.setattr(module, "PIECE_IDS", 16)
    known, forgotten, at_once = (tmp_path / name for name in ("known", "forgotten", "at once"))
    texts = sorted(word_texts(9))
    small_run(known, write_texts(tmp_path / "words", texts[:6]), cluster=False)
    shutil.copytree(known, forgotten)
    with atlas.open(forgotten, writable=True) as a:
        a.execute("delete from digests where \"table\" in ('codes', 'activations')")
    write_texts(tmp_path / "words", texts)
    small_run(at_once, tmp_path / "words", cluster=False)
    again: list[object] = []
    read_pieces = digests.read_pieces
    monkeypatch.setattr(publish, "read_pieces", lambda *given: again.append(given[3:]) or read_pieces(*given))
    of_sites = "select name, n_codes, codes_digest, n_activations, activations_digest from sites order by all"
    pieces = "from digests where \"table\" in ('codes', 'activations') order by all"
    for path, expected in ((known, ([1],)), (forgotten, ())):
        again.clear()
        small_run(path, tmp_path / "words", cluster=False)
        assert again == [expected] * 4
        with atlas.open(path) as a, atlas.open(at_once) as whole:
            assert a.rows(of_sites) == whole.rows(of_sites)
            assert a.rows(pieces) == whole.rows(pieces) and len(a.rows(pieces)) == 12


def check_text_row(row: dict, label: str | None) -> None:
    assert row["token"] == row["text"].split(" ")[row["position"]]
    assert row["context"][row["context_offset"] :].startswith(row["token"])
    assert row["context"] in row["text"] and row["label"] == label
    assert row["position"] in (1, 3, 6, 8)


def test_digests_are_of_what_is_stored(tmp_path: Path) -> None:
    """Rows of an empty site are digested on their way, else all are read back: first four texts, then nine, then
    sites that the same examples lack, in another order than their ids."""
    data = write_texts(tmp_path / "words", word_texts(4))
    small_run(tmp_path / "a", data, cluster=False)
    write_texts(data, word_texts(9))
    small_run(tmp_path / "a", data, cluster=False)
    small_run(tmp_path / "a", data, replace(SMALL, sites=SITES, spans=()), cluster=False)
    with atlas.open(tmp_path / "a") as a:
        assert len(a.catalog.sites) == len(SITES)
        for site in a.catalog.sites:
            assert (site.n_codes, site.codes_digest) == digests.codes_digest(a, site) and site.n_codes == 36
            assert (site.n_activations, site.activations_digest) == digests.activations_digest(a, site)


def test_published_codes_are_compact(tmp_path: Path) -> None:
    """The same run with one site of 4,096 gates more; nothing else can make the difference."""
    sizes = []
    for n_sites in (1, 2):
        network = NoisyNetwork(width=4096, n_sites=n_sites)
        choices = Choices(tokens=TokenSampling(64, 0), store_activations=False)
        ingest(tmp_path / str(n_sites), network, Noise(64), choices, cluster=False)
        sizes.append((tmp_path / str(n_sites) / "atlas.duckdb").stat().st_size)
    assert sizes[1] - sizes[0] <= 1.1 * 64 * 64 * 4096 / 8


def test_images_keep_their_order(tmp_path: Path) -> None:
    """Images keep their order over shards and doubles."""
    network = PixelNetwork()
    for key, _, image in pixel_images(12):
        (tmp_path / "px" / key).parent.mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / "px" / key)
    (tmp_path / "px" / "dark" / "1.png").write_bytes((tmp_path / "px" / "bright" / "3.png").read_bytes())
    choices = Choices(full=("all",), batch_size=2, shard_examples=3, view=ImageSampling(0.9, 0.1))
    data = open_dataset(str(tmp_path / "px"), kind="image")
    ingest(tmp_path / "a", network, data, choices, cluster=False)
    contents = {item.content_hash: item for item in data.items() if isinstance(item, Item)}
    with atlas.open(tmp_path / "a") as a:
        found = stored(a, network)
        rows = a.records("from examples join inputs using (input_id) order by example_id")
        assert len(rows) == len(found) == 12
        for row in rows:
            image = contents[row["content_hash"]].content
            assert isinstance(image, Image.Image)
            assert (row["row"], row["column"]) == (np.float32(0.9), np.float32(0.1))
            expected = reading_of(network, ImageView(image, 0.9, 0.1, row["label"]))
            check_equal(found[row["example_id"]], expected, {site.name for site in network.sites})


def check_published(path: Path, network: Network, work_of: dict) -> None:
    """Every stored code and activation is, bit for bit, what the network reads for that example."""
    with atlas.open(path) as a:
        found = stored(a, network)
        rows = a.rows("select example_id, content_hash, position from examples join inputs using (input_id)")
        assert len(rows) == len(found) == len(work_of) > 0
        for example, content_hash, position in rows:
            expected = reading_of(network, work_of[content_hash, position])
            check_equal(found[example], expected, set(found[example]))
        assert sum(map(len, found.values())) == len(rows) * len({site for codes in found.values() for site in codes})


def test_text_codes_published_bit_for_bit(tmp_path: Path) -> None:
    """Codes of a language model are published bit for bit."""
    network = shipped("demo:gpt2")
    texts = [text.text for text in islice(python_texts("heldout"), 30) if 1500 < len(text.text) < 3000][:2]
    folder = write_texts(tmp_path / "texts", [(f"{i}.txt", None, text) for i, text in enumerate(texts)])
    sampling = TokenSampling(1, 30)
    # One sequence a batch and one example a sequence: the same sums in the same order as when it is read alone.
    ingest(
        tmp_path / "a",
        network,
        open_dataset(str(folder), kind="text"),
        Choices(batch_size=1, tokens=sampling),
        cluster=False,
    )
    work_of = {}
    for item in open_dataset(str(folder), kind="text").items():
        tokens = network.tokenize(item.content)
        for window in network.windows(len(tokens.ids)):
            for position in sampling.positions(len(window)):
                following = int(tokens.ids[window.stop]) if window.stop < len(tokens.ids) else None
                work = TokenWindow(tokens.ids[window.start : window.stop], np.array([position]), following)
                work_of[item.content_hash, window.start + position] = work
    check_published(tmp_path / "a", network, work_of)


def test_image_codes_published_bit_for_bit(tmp_path: Path) -> None:
    """Codes of an image network are published bit for bit full ones included."""
    network = shipped("demo:inceptionv1")
    data = open_dataset("builtin:digits-heldout", kind="image")
    ingest(tmp_path / "a", network, data, Choices(limit=3, batch_size=1, full=("all",)), cluster=False)
    with atlas.open(tmp_path / "a") as a:
        kept = {content_hash for (content_hash,) in a.rows("select content_hash from inputs")}
        assert all(site.n_codes == 3 for site in a.catalog.sites) and len(a.catalog.sites) == len(network.sites)
        assert {site.name.endswith(FULL_SUFFIX) for site in a.catalog.sites} == {True, False}
    work_of = {
        (item.content_hash, None): ImageView(item.content, 0.5, 0.5, item.label)
        for item in data.items()
        if item.content_hash in kept
    }
    check_published(tmp_path / "a", network, work_of)


@pytest.mark.parametrize("batch_size", [1, 5])
def test_any_batch_size_gives_same_codes(batch_size: int, data: Path, published: Path, tmp_path: Path) -> None:
    """A batch of any size publishes the same codes as batches of two in other shards."""
    choices = replace(SMALL, batch_size=batch_size, shard_examples=100)
    small_run(tmp_path / "a", data, choices, cluster=False)
    codes = "select site_id, example_id, code::varchar from codes order by all"
    assert rows(tmp_path / "a", codes) == rows(published, codes)

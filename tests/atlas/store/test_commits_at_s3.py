"""Commits at S3, and in a folder: killed, beaten, at a store that is slow or dies. What counts is whole."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import atlas
import query
from atlas.errors import DamagedAtlas, NotAnAtlas, StoreError
from atlas.store.opening import segmented_place
from atlas.store.places import Place
from atlas.store.segmented import SegmentedAtlas
from atlas.store.vacuum import vacuum
from atlas.store.versions import read_version, version_name, version_numbers
from tests import object_store
from tests.forked import children
from tests.ingest.runs import Watching, small_run, small_texts
from tests.networks import word_texts

pytestmark = pytest.mark.slow

pytest.importorskip("obstore", reason="obstore isn't installed (extra cloud)")

SITES = "select name, n_codes, codes_digest, n_activations, activations_digest from sites order by site_id"
ADD = "insert into spans select (select max(span_id) + 1 from spans), 1, 'blocks.0.mlp->'"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return small_texts(tmp_path / "texts")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run in a folder, in segments."""
    folder = tmp_path_factory.mktemp("undisturbed")
    small_run(folder / "a.atlas", small_texts(folder / "texts"), segmented=True, cluster=False)
    return folder / "a.atlas"


@pytest.fixture
def stored(s3: str, undisturbed: Path, tmp_path: Path) -> Iterator[str]:
    """The same at S3, to write as well."""
    with object_store.copied(undisturbed, tmp_path / "cache") as address:
        yield address


def place_of(path: str | Path) -> Place:
    place = segmented_place(path)
    assert place is not None
    return place


def names(path: str | Path) -> set[str]:
    """Every file that lies where an atlas does, but those of versions."""
    place = place_of(path)
    return {name for folder in ("catalog", "segments") for name, _, _ in place.files(folder)}


def held(path: str | Path, *, checked: bool = False) -> list[tuple[Any, ...]]:
    """Digests of an atlas, all of which are right where that is ``checked``."""
    with atlas.open(path) as a:
        assert not checked or query.verify(a)["ok"].all()
        return a.rows(SITES)


def _run(environment: Mapping[str, str], path: str | Path, data: Path, dies_at: str, meets: Any = None) -> None:
    """Of a child: a run. ``dies_at``: the file that it would link last of all. ``meets``: where it waits, once, with
    everything published in its private copy, for another one. Its status says how often it published."""
    os.environ.update(environment)
    published = Counter[str]()

    def happens(step: str, number: int) -> None:
        published[step] += number == 0
        if step == "index" and number == 0 and published[step] == 1 and meets is not None:
            meets.wait(120)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.link" and str(arguments[1]).endswith(dies_at):
            os._exit(9)

    if dies_at:
        sys.addaudithook(watch)
    small_run(Path(path), data, segmented=dies_at != "", cluster=False, progress=Watching(happens))
    os._exit(published["publish"])


def started(*arguments: Any) -> Any:
    child = children().Process(target=_run, args=arguments)
    child.start()
    return child


@pytest.mark.parametrize("where", ["folder", "s3"])
def test_killed_before_it_counts(where: str, s3: str, data: Path, undisturbed: Path, tmp_path: Path) -> None:
    """All files of a version are there but its own: it counts for nothing. The run given again ends as it would have,
    and vacuum removes what the killed one left."""
    last, child = version_name(2), None

    def killed() -> int | None:
        return None if child is None else child.pid

    with object_store.in_front(object_store.killing(killed, "PUT", last)) as url:
        path = f"{s3}/a.atlas" if where == "s3" else tmp_path / "a.atlas"
        environment = object_store.environment(url) | {"POLYTOPE_CACHE": os.environ["POLYTOPE_CACHE"]}
        child = started(environment, path, data, last)
        child.join(120)
    assert child.exitcode == (-9 if where == "s3" else 9)
    left = names(path)
    assert version_numbers(place_of(path)) == [1] and {name.split("/")[2] for name in left if "site_id" in name}
    small_run(Path(path), data, cluster=False)
    needed = {file.name for file in read_version(place_of(path), 2).files}
    assert needed < names(path) and vacuum(path, grace=0).versions == (1,)
    assert not (left & names(path)) and {name for name in names(path) if not name.endswith(".json")} == needed
    assert held(path, checked=True) == held(undisturbed)


def test_two_hosts_commit_at_once(s3: str, data: Path, tmp_path: Path) -> None:
    """Each has published upon the same version when the other one does: one comes first, the other adds to that."""
    path = f"{s3}/a.atlas"
    small_run(Path(path), data, segmented=True, cluster=False)
    meeting, hosts = children().Barrier(2), []
    for seed, host in enumerate(("one", "two"), start=3):
        own = tmp_path / host
        for key, _, text in word_texts(3, seed=seed):
            (own / key).parent.mkdir(parents=True, exist_ok=True)
            (own / key).write_text(text)
        environment = {**os.environ, "POLYTOPE_CACHE": str(tmp_path / f"cache {host}")}
        hosts.append(started(environment, path, own, "", meeting))
    for child in hosts:
        child.join(120)
    assert sorted(child.exitcode for child in hosts) == [1, 2]
    assert version_numbers(place_of(path)) == [1, 2, 3, 4]
    with atlas.open(path) as a:
        order = [name for (name,) in a.rows("select name from datasets order by dataset_id")]
    assert sorted(order[1:]) == ["one", "two"]
    for name in order:
        small_run(tmp_path / "tables", tmp_path / name, cluster=False)
    assert held(path, checked=True) == held(tmp_path / "tables")


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[object_store.Rule], None]]:
    """Puts a server with a rule before the store; what it hands on has to come within 3 s."""
    monkeypatch.setenv("POLYTOPE_STORE_SECONDS", "3")
    opened = []

    def put(rule: object_store.Rule) -> None:
        context = object_store.in_front(rule)
        monkeypatch.setenv("AWS_ENDPOINT_URL", context.__enter__())
        opened.append(context)

    yield put
    for context in opened:
        context.__exit__(None, None, None)


FAILURES = {
    "stall": (r"HTTP error|timed? ?out", StoreError),
    "cut": (r"HTTP error|error decoding|ends before", StoreError),
    "refuse": (r"AccessDenied|403|permissions?", StoreError),
}
"""What a store does, and what is said of it."""


@pytest.mark.parametrize("what", FAILURES)
def test_a_failing_store_has_a_sentence(what: str, stored: str, before: Callable[[object_store.Rule], None]) -> None:
    """Of a segment that is read by SQL, and of an index that is fetched; asked three times at most, and the next
    question after it is answered."""
    asked, failing = Counter[str](), {"it": True}

    def rule(method: str, path: str) -> str:
        if not failing["it"] or "/segments/" not in path or path.endswith(".json"):
            return "pass"
        asked[path] += 1
        return what

    before(rule)
    words, kind = FAILURES[what]
    with atlas.open(stored) as a:
        for question in (
            lambda: query.sql(a, "select count(distinct code) from codes where site_id = 1"),
            lambda: query.nearest(a, example=1, site="blocks.0.mlp"),
        ):
            with pytest.raises(kind, match=words) as caught:
                question()
            assert stored in str(caught.value) and "hidden-word" not in str(caught.value)
        assert asked and max(asked.values()) <= 2 * 3  # its size, then its bytes
        failing["it"] = False
        assert len(query.nearest(a, example=1, site="blocks.0.mlp")) == 10


@pytest.mark.parametrize("what", ["stall", "refuse"])
def test_a_commit_at_a_dying_store(what: str, stored: str, before: Callable[[object_store.Rule], None]) -> None:
    """It fails with a sentence, half of nothing is committed, and the writer goes on where it began."""
    dead = {"it": True}
    before(lambda method, path: what if dead["it"] and method == "PUT" else "pass")
    with atlas.open(stored, writable=True) as writer:
        assert isinstance(writer, SegmentedAtlas)
        with pytest.raises(StoreError, match=f"{stored} can't be read or written") as caught, writer.transaction():
            writer.execute(ADD)
        assert "hidden-word" not in str(caught.value)
        assert version_numbers(place_of(stored)) == [1, 2] and writer.value("select count(*) from spans") == 1
        dead["it"] = False
        with writer.transaction():
            writer.execute(ADD)
    with atlas.open(stored) as a:
        assert a.value("select count(*) from spans") == 2 and not any(fault for _, fault in a.file_faults())


def test_a_lost_answer_is_no_rival(stored: str, before: Callable[[object_store.Rule], None]) -> None:
    """The version is written and nobody hears of it: it counts once, and nobody is told that somebody was first."""
    lost = Counter[str]()

    def rule(method: str, path: str) -> str:
        lost[path] += method == "PUT"
        return "lose" if method == "PUT" and "/versions/" in path and lost[path] == 1 else "pass"

    before(rule)
    with atlas.open(stored, writable=True) as writer, writer.transaction():
        writer.execute(ADD)
    assert version_numbers(place_of(stored)) == [1, 2, 3]
    with atlas.open(stored) as a:
        assert a.value("select count(*) from spans") == 2


def test_damage_at_s3_has_a_sentence(stored: str, s3: str) -> None:
    """Of an index, of which the copy on this machine is another file: its address is named, and not that copy."""
    with atlas.open(stored) as a:
        assert isinstance(a, SegmentedAtlas)
        index = next(file for file in a.version.indexes if "blocks.0.mlp-" in file.name)
        (a.path / index.name).parent.mkdir(parents=True)
        (a.path / index.name).write_bytes(b"0" * index.size)
        with pytest.raises(atlas.errors.IndexMissing, match=rf"index at {stored}/{index.name} is damaged"):
            query.nearest(a, example=1, site="blocks.0.mlp", exact=True)
        place_of(stored).remove(index.name)
        with pytest.raises(atlas.errors.IndexMissing, match=rf"no index at {stored}/{index.name}"):
            query.nearest(a, example=1, site="blocks.0.mlp")
        catalog = a.version.catalog
    place_of(stored).remove(catalog.name)
    with pytest.raises(DamagedAtlas, match=f"{stored}/{catalog.name} is not there"):
        atlas.open(stored)
    with pytest.raises(NotAnAtlas, match=f"{s3}/none.atlas holds no version of an atlas"):
        vacuum(f"{s3}/none.atlas")

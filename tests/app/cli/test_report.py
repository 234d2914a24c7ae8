"""The report: every claim has its figure, numbers and verdict, or the reason why not; it goes on where it stopped."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import atlas
from app.cli.progress import TerminalProgress
from app.cli.report_run import write_report
from atlas.errors import AtlasLocked, UsageError
from atlas.network import Network
from ingest.datasets.sources import open_dataset
from ingest.progress import Step
from ingest.run.plan import Choices
from ingest.run.run import ingest
from query.experiments import archive
from query.experiments.registry import claims
from query.experiments.report import Block, command
from tests.app.cli.test_main import Run, polytope

__all__ = ["polytope"]

SHORT = (
    "clusters",
    "activations",
    "tops",
    "neuron",
    "projection",
    "directions",
    "density",
    "depth",
    "flow",
    "dictionary",
    "occupancy",
)
"""Sections that read the atlas alone."""


@pytest.fixture(scope="module")
def made(demo_atlas: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Block]]:
    """A small atlas, its whole report, though a quick one, and what is in it."""
    folder = tmp_path_factory.mktemp("report")
    path = Path(shutil.copytree(demo_atlas, folder / "small.atlas"))
    return path, folder / "report.html", write_report(path, folder / "report.html", device="cpu", quick=True)


class _Page(HTMLParser):
    """Ids, links and the number of figures of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [found["id"]] if found.get("id") else []
        self.links += [found["href"]] if tag == "a" and found.get("href") else []
        self.loads += [str(found["src"])] if "src" in found else []
        self.loads += [str(found["href"])] if tag == "link" else []


def test_every_section_has_a_figure_numbers_with_n_and_a_verdict_on_every_network(
    made: tuple[Path, Path, list[Block]],
) -> None:
    _, _, blocks = made
    assert {block.network.name for block in blocks if block.kind == "as given"} == {"demo-gpt2", "demo-inceptionv1"}
    missing = {(block.claim.key, block.network.name): block.reason for block in blocks if block.result is None}
    assert list(missing) == [("norm", "demo-inceptionv1")]
    assert "an image network has no LayerNorm" in missing["norm", "demo-inceptionv1"]
    for block in blocks:
        if block.result is None:
            continue
        assert block.numbers is not None and list(block.numbers.columns) == ["what", "value", "low", "high", "n"]
        assert len(block.numbers) > 0 and block.numbers["n"].notna().all(), block.claim.key
        if block.claim.judge is None:
            assert block.numbers["value"].notna().any()
            continue
        assert block.verdict is not None and block.claim.rule
        assert block.verdict.word in ("supported", "not supported", "undecided") and block.verdict.because
    shown = {block.claim.key for block in blocks if block.result is not None and block.claim.judge is None}
    assert shown == {"slice", "occupancy"}


def test_the_numbers_of_what_is_only_shown_are_those_of_the_tables(made: tuple[Path, Path, list[Block]]) -> None:
    _, output, blocks = made
    by_key = {block.claim.key: block for block in blocks if block.network.name == "demo-inceptionv1"}
    sliced, occupied = by_key["slice"], by_key["occupancy"]
    assert sliced.result is not None and sliced.numbers is not None
    [summary] = sliced.result.tables["summary"].to_dict("records")
    numbers = sliced.numbers.set_index("what")
    polytopes = numbers.loc["distinct polytopes among the points of the grid"]
    assert (
        (polytopes["value"], polytopes["n"])
        == (summary["polytopes"], summary["points"])
        == (polytopes["value"], 1024)
    )
    assert numbers.loc["gates on at some of the points and off at others", "value"] == summary["gates_crossed"]
    assert occupied.result is not None and occupied.numbers is not None
    for row in occupied.result.table.to_dict("records"):
        found = occupied.numbers[occupied.numbers["what"] == f"{row['target']}: distinct codes"].iloc[0]
        assert (found["value"], found["n"]) == (row["distinct"], row["examples"])
    text = output.read_text(encoding="utf-8")
    assert text.count("<summary>Numbers</summary>") == sum(block.result is not None for block in blocks)


def test_trained_stands_beside_untrained(made: tuple[Path, Path, list[Block]]) -> None:
    path, _, blocks = made
    with atlas.open(path) as a:
        weights = {network.name: network.weights for network in a.catalog.networks}
    assert sorted(w for w in weights.values() if w.startswith("random")) == ["random-raw:0", "random:0", "random:0"]
    by_key = {(block.claim.key, block.network.name): block for block in blocks}
    density = by_key["density", "demo-inceptionv1"].result
    assert density is not None
    assert set(density.table["weights"]) == {"as given", "untrained, calibrated", "untrained, raw"}
    scaled = by_key["untrained", "demo-inceptionv1"].result
    assert scaled is not None and {"activation", "gaussian", "random", "random-raw"} == set(scaled.table["kind"])
    assert by_key["clusters", "demo-inceptionv1-random-raw-0"].kind == "untrained, raw"


def test_the_page_is_one_file_whose_links_lead_somewhere(made: tuple[Path, Path, list[Block]]) -> None:
    _, output, blocks = made
    text = output.read_text(encoding="utf-8")
    page = _Page(re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL))
    assert page.loads == [] and len(page.ids) == len(set(page.ids))
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert {claim.key for _, claim in claims()} <= set(page.ids)
    results = {block.experiment_id for block in blocks if block.result is not None}
    assert len([name for name in page.ids if name.startswith("figure-")]) == len(results)
    assert "Appendix E" in text and "Strongest members" in text


def test_given_again_it_measures_nothing_and_writes_the_same(
    made: tuple[Path, Path, list[Block]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, output, blocks = made
    with atlas.open(path) as a:
        before = archive.stored(a)
    again = write_report(path, tmp_path / "again.html", device="cpu", quick=True)
    assert "done in" not in capsys.readouterr().err
    with atlas.open(path) as a:
        assert archive.stored(a).equals(before) and before["current"].all()
    assert [b.experiment_id for b in again] == [b.experiment_id for b in blocks]
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == output.read_text(encoding="utf-8")


def test_a_result_that_cannot_be_stored_now_waits_and_is_on_the_page(demo_atlas: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(demo_atlas, tmp_path / "held.atlas"))
    with atlas.open(path):  # as an explorer holds it
        with pytest.raises(AtlasLocked, match="already open in this process"):
            write_report(path, tmp_path / "r.html", network="demo-inceptionv1", only=["occupancy"], controls=False)
        assert "how many polytopes" in (tmp_path / "r.html").read_text(encoding="utf-8")
    again = write_report(path, tmp_path / "r.html", network="demo-inceptionv1", only=["occupancy"], controls=False)
    assert [block.experiment_id for block in again] == [1]


def test_the_printed_command_repeats_a_measurement(made: tuple[Path, Path, list[Block]], polytope: Run) -> None:
    import shlex

    path, _, blocks = made
    for block in blocks:
        if block.claim.key not in SHORT or block.network.name != "demo-inceptionv1":
            continue
        assert block.result is not None
        words = shlex.split(command(block.result.kind, block.result.options, block.network.name, str(path)))
        assert words[0] == "polytope"
        answer = polytope(*words[1:])
        assert f"stored as experiment {block.experiment_id}" in answer.err, words


def test_the_printed_command_survives_a_path_with_spaces_and_an_apostrophe() -> None:
    import shlex

    line = command("occupancy", {"scope": "position"}, "my net", "/data/Ann's atlases/a.atlas")
    assert shlex.split(line) == [
        "polytope",
        "experiment",
        "occupancy",
        "/data/Ann's atlases/a.atlas",
        "--network",
        "my net",
        "--scope",
        "position",
    ]


def test_what_cannot_be_measured_says_why(demo_atlas: Path, tmp_path: Path, polytope: Run) -> None:
    path = Path(shutil.copytree(demo_atlas, tmp_path / "bare.atlas"))
    with atlas.open(path, writable=True) as writer, writer.transaction():
        writer.execute("delete from activations")
        writer.execute("update sites set n_activations = 0, activations_digest = null")
    answer = polytope(
        "report",
        path,
        "-o",
        tmp_path / "bare.html",
        "--no-live",
        "--no-controls",
        "--network",
        "demo-gpt2",
        "--only",
        "neuron,projection,density,peak",
        "--json",
    )
    found = {row["section"]: row for row in json.loads(answer.out)}
    assert {row["verdict"] for row in found.values()} == {"not measured"}
    assert (
        "--store-activations" in found["neuron"]["because"] and "--store-activations" in found["density"]["because"]
    )
    assert found["projection"]["because"] == "no neuron was measured, so none is projected on"
    assert found["peak"]["because"] == "left out by --no-live"
    assert "no activations are stored" in (tmp_path / "bare.html").read_text(encoding="utf-8")


def test_of_photos_scaling_is_measured_beside_controls_that_are_ingested_and_else_alone(
    networks: dict[str, Network], tmp_path: Path
) -> None:
    """Of an image above 64 pixels the atlas keeps a thumbnail, so that no network can read it again."""
    path = tmp_path / "photos.atlas"
    choices = Choices(full=("inception4c",), limit=8)
    digits = open_dataset("builtin:digits-heldout", kind="image")
    ingest(path, networks["demo:inceptionv1"], digits, choices, cluster=False)
    with atlas.open(path, writable=True) as writer:
        writer.execute("update inputs set width = 2000, height = 1500")
    options: dict[str, Any] = {"only": ["peak", "change", "untrained", "noise"], "quick": True, "device": "cpu"}
    alone = write_report(path, tmp_path / "alone.html", controls=False, **options)
    for block in alone:
        assert block.result is not None and set(block.result.table["kind"]) == {"activation", "gaussian"}
        assert any("no untrained control stands beside it: example" in note for note in block.result.notes)
    verdicts = {block.claim.key: block.verdict for block in alone}
    assert verdicts["untrained"] is not None and verdicts["untrained"].because == "no control was run"
    both = write_report(path, tmp_path / "both.html", **options)
    for block in both:
        assert block.result is not None
        assert set(block.result.table["kind"]) == {"activation", "gaussian", "random", "random-raw"}
        assert not any("no untrained control" in note for note in block.result.notes)


class _Interrupted(Step):
    """Stops as Ctrl-C does when half of the work is done."""

    def update(self, done: int, total: int) -> None:
        if 2 * done >= total:
            raise KeyboardInterrupt


def test_interrupted_in_the_middle_of_a_measurement_it_leaves_no_row_of_it_and_goes_on(
    demo_atlas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(shutil.copytree(demo_atlas, tmp_path / "cut.atlas"))
    options: dict[str, Any] = {
        "network": "demo-inceptionv1",
        "only": ["density", "occupancy"],
        "controls": False,
        "quick": True,
    }

    @contextmanager
    def step(self: TerminalProgress, name: str, **_: Any) -> Iterator[Step]:
        yield _Interrupted() if name.startswith("occupancy") else Step()

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TerminalProgress, "step", step)
        write_report(path, tmp_path / "r.html", **options)
    assert not (tmp_path / "r.html").exists()
    with atlas.open(path) as a:
        before = archive.stored(a)
        assert before["kind"].tolist() == ["density"]
    capsys.readouterr()
    blocks = write_report(path, tmp_path / "r.html", **options)
    told = capsys.readouterr().err
    assert "occupancy (demo-inceptionv1): done in" in told and "density (demo-inceptionv1): done in" not in told
    assert [block.experiment_id for block in blocks] == [1, 2]
    with atlas.open(path) as a:
        assert archive.stored(a)["kind"].tolist() == ["occupancy", "density"]
        assert archive.stored(a).iloc[1:].reset_index(drop=True).equals(before)


def test_impossible_reports_are_refused(demo_atlas: Path, tmp_path: Path, polytope: Run) -> None:
    with pytest.raises(UsageError, match="--only is 'clouds'; sections are slice, clusters"):
        write_report(demo_atlas, tmp_path / "r.html", only=["clouds"], controls=False)
    words = " ".join(polytope("report", "--help").out.replace("│", " ").split())
    assert f"Claims by key, by commas: {', '.join(claim.key for _, claim in claims())}." in words
    answer = polytope("report", demo_atlas, "-o", tmp_path / "report.pdf")
    assert answer.status == 1 and "ends in .html" in answer.err

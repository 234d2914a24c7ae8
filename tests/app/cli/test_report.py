"""The report: every claim has its figure, numbers and verdict, or the reason why not; it goes on where it stopped."""

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import atlas
from app.cli.progress import TerminalProgress
from app.cli.report_run import write_report
from app.cli.statuses import UNFORESEEN
from atlas.errors import AtlasLocked, UsageError
from ingest.datasets.sources import open_dataset
from ingest.networks import load_network
from ingest.progress import Step
from ingest.run.plan import Choices
from ingest.run.run import ingest
from ingest.run.sampling import TokenSampling
from query.experiments import archive
from query.experiments.registry import claims
from query.experiments.report import Block, command
from tests.app.cli.command import Run
from tests.networks import shipped

pytestmark = pytest.mark.slow

IMAGES = "demo-inceptionv1"

SHORT = "clusters activations tops neuron projection directions density depth flow dictionary occupancy"
"""Sections that read the atlas alone."""


class Made(NamedTuple):
    """A small atlas, its whole report, though a quick one, and what is in it."""

    path: Path
    output: Path
    blocks: list[Block]


@pytest.fixture(scope="module")
def made(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Of the image network its last sites, of the other few tokens: what a report takes grows with their number."""
    folder = tmp_path_factory.mktemp("report")
    path, output = folder / "small.atlas", folder / "report.html"
    digits, sites = (
        open_dataset("builtin:digits-heldout", kind="image"),
        ("inception5a", "inception5b"),
    )
    ingest(path, shipped("demo:inceptionv1"), digits, Choices(sites=sites, full=sites, limit=40))
    tokens = TokenSampling(per_sequence=8, skip_first=0)
    ingest(path, shipped("demo:gpt2"), open_dataset(str(texts), kind="text"), Choices(tokens=tokens))
    return Made(path, output, write_report(path, output, device="cpu", quick=True))


def test_every_section_has_its_verdict(made: Made):
    """On every network, with numbers and their n."""
    blocks = made.blocks
    assert {block.network.name for block in blocks if block.kind == "as given"} == {"demo-gpt2", IMAGES}
    missing = {(block.claim.key, block.network.name): block.reason for block in blocks if block.result is None}
    assert list(missing) == [("dictionary", IMAGES), ("norm", IMAGES)]
    assert "were not ingested; ingest them with --sites" in missing["dictionary", IMAGES]
    assert "it shows no residual stream before a norm" in missing["norm", IMAGES]
    for block in blocks:
        if block.result is None:
            continue
        assert block.numbers is not None and list(block.numbers.columns) == ["what", "value", "low", "high", "n"]
        if len(block.numbers) == 0:
            assert block.verdict is not None and block.verdict.word == "undecided", block.claim.key
        assert block.numbers["n"].notna().all(), block.claim.key
        if block.claim.judge is None:
            assert block.numbers["value"].notna().any()
            continue
        assert block.verdict is not None and block.claim.rule
        assert block.verdict.word in ("supported", "not supported", "undecided") and block.verdict.because
    shown = {block.claim.key for block in blocks if block.result is not None and block.claim.judge is None}
    assert shown == {"slice", "occupancy"}


def test_numbers_are_those_of_the_tables(made: Made):
    """Of what is only shown, without a verdict."""
    _, output, blocks = made
    by_key = {block.claim.key: block for block in blocks if block.network.name == IMAGES}
    sliced, occupied = by_key["slice"], by_key["occupancy"]
    assert sliced.result is not None and sliced.numbers is not None
    [summary] = sliced.result.tables["summary"].to_dict("records")
    numbers = sliced.numbers.set_index("what")
    polytopes = numbers.loc["distinct polytopes among the points of the grid"]
    assert (polytopes["value"], polytopes["n"]) == (summary["polytopes"], summary["points"])
    assert polytopes["n"] == 1024
    assert numbers.loc["gates on at some of the points and off at others", "value"] == summary["gates_crossed"]
    assert occupied.result is not None and occupied.numbers is not None
    for row in occupied.result.table.to_dict("records"):
        found = occupied.numbers[occupied.numbers["what"] == f"{row['target']}: distinct codes"].iloc[0]
        assert (found["value"], found["n"]) == (row["distinct"], row["examples"])
    text = output.read_text(encoding="utf-8")
    assert text.count("<summary>Numbers</summary>") == sum(block.result is not None for block in blocks)


def test_trained_stands_beside_untrained(made: Made):
    path, _, blocks = made
    with atlas.open(path) as a:
        weights = {network.name: network.weights for network in a.catalog.networks}
    assert sorted(w for w in weights.values() if w.startswith("random")) == ["random-raw:0", "random:0", "random:0"]
    by_key = {(block.claim.key, block.network.name): block for block in blocks}
    density = by_key["density", IMAGES].result
    assert density is not None
    assert set(density.table["weights"]) == {"as given", "untrained, calibrated", "untrained, raw"}
    scaled = by_key["untrained", IMAGES].result
    assert scaled is not None and {"activation", "gaussian", "random", "random-raw"} == set(scaled.table["kind"])
    assert by_key["clusters", "demo-inceptionv1-random-raw-0"].kind == "untrained, raw"


def test_links_of_the_page_lead_somewhere(made: Made):
    _, output, blocks = made
    text = output.read_text(encoding="utf-8")
    page = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert re.findall(r"<link|\ssrc=", page) == []
    ids = re.findall(r"\sid=[\"']([^\"']+)", page)
    links = re.findall(r"\shref=[\"']([^\"']+)", page)
    assert len(ids) == len(set(ids)) and {claim.key for _, claim in claims()} <= set(ids)
    assert links and all(link[0] == "#" and link[1:] in ids for link in links)
    results = {block.experiment_id for block in blocks if block.result is not None}
    assert len([name for name in ids if name.startswith("figure-")]) == len(results)
    assert "Appendix E" in text and "Strongest members" in text


def test_given_again_it_measures_nothing(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """And writes the same page."""
    path, output, blocks = made
    with atlas.open(path) as a:
        before = archive.stored(a)
    again = write_report(path, tmp_path / "again.html", device="cpu", quick=True)
    assert "done in" not in capsys.readouterr().err
    with atlas.open(path) as a:
        assert archive.stored(a).equals(before) and before["current"].all()
    assert [b.experiment_id for b in again] == [b.experiment_id for b in blocks]
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == output.read_text(encoding="utf-8")


def test_what_cannot_be_stored_now_waits(own: Path, tmp_path: Path):
    """It is on the page all the same."""
    options: dict[str, Any] = {"network": IMAGES, "only": ["occupancy"], "controls": False}
    with atlas.open(own):  # as an explorer holds it
        with pytest.raises(AtlasLocked, match="already open in this process"):
            write_report(own, tmp_path / "r.html", **options)
        assert "how many polytopes" in (tmp_path / "r.html").read_text(encoding="utf-8")
    again = write_report(own, tmp_path / "r.html", **options)
    assert [block.experiment_id for block in again] == [1]


def test_a_printed_command_asks_the_same(made: Made, polytope: Run):
    path, _, blocks = made
    for block in blocks:
        if block.result is None or block.claim.key not in SHORT.split() or block.network.name != IMAGES:
            continue
        words = shlex.split(command(block.result.kind, block.result.options, block.network.name, str(path)))
        assert words[0] == "polytope"
        answer = polytope(*words[1:])
        assert f"stored as experiment {block.experiment_id}" in answer.err, words


def test_a_printed_command_quotes_its_path():
    line = command("occupancy", {"scope": "position"}, "my net", "/data/Ann's atlases/a.atlas")
    words = ["/data/Ann's atlases/a.atlas", "--network", "my net", "--scope", "position"]
    assert shlex.split(line) == ["polytope", "experiment", "occupancy", *words]


def test_what_cannot_be_measured_says_why(own: Path, tmp_path: Path, polytope: Run):
    with atlas.open(own, writable=True) as writer, writer.transaction():
        writer.execute("delete from activations")
        writer.execute("update sites set n_activations = 0, activations_digest = null")
    asked = ("--no-live", "--no-controls", "--network", "demo-gpt2", "--only", "neuron,projection,density,peak")
    answer = polytope("report", own, "-o", tmp_path / "bare.html", *asked, "--json")
    found = {row["section"]: row for row in answer.rows()}
    assert {row["verdict"] for row in found.values()} == {"not measured"}
    assert all("--store-activations" in found[name]["because"] for name in ("neuron", "density"))
    assert found["projection"]["because"] == "no neuron was measured, so none is projected on"
    assert found["peak"]["because"] == "left out by --no-live"
    assert "no activations are stored" in (tmp_path / "bare.html").read_text(encoding="utf-8")


def test_scaling_of_photos_needs_controls(tmp_path: Path):
    """Of an image above 64 pixels the atlas keeps a thumbnail, so that no network can read it again: it is measured
    beside controls that are ingested, and else alone."""
    path = tmp_path / "photos.atlas"
    choices = Choices(sites=("inception4c",), full=("inception4c",), limit=8)
    digits = open_dataset("builtin:digits-heldout", kind="image")
    ingest(path, shipped("demo:inceptionv1"), digits, choices, cluster=False)
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


def test_models_that_differ_from_gpt2_report(tiny_model: Any, texts: Path, tmp_path: Path, polytope: Run):
    """An OPT's MLP is no module and its gates are ReLU: sections that run it have numbers, and its own reason."""
    path, output = tmp_path / "opt.atlas", tmp_path / "opt.html"
    choices = Choices(limit=4, tokens=TokenSampling(per_sequence=4, skip_first=4))
    opt = load_network(str(tiny_model("opt")), device="cpu")
    ingest(path, opt, open_dataset(str(texts), kind="text"), choices, cluster=False)
    asked = ("--only", "norm,peak,adversarial", "--quick", "--no-controls", "--device", "cpu", "--json")
    answer = polytope("report", path, "-o", output, *asked)
    assert answer.status == 0 and {row["verdict"] for row in answer.rows()} == {"undecided"}
    text = output.read_text(encoding="utf-8")
    assert "attention and normalisation are not piecewise linear" in text and "of one position" not in text


def test_a_failing_section_has_its_status(own: Path, tmp_path: Path, polytope: Run):
    """The page is written all the same, and the exit status tells a script."""
    with atlas.open(own, writable=True) as writer:
        writer.execute("alter table examples rename column token to tokens")
    asked = ("--only", "occupancy,dictionary", "--network", "demo-gpt2", "--quick", "--no-controls")
    answer = polytope("report", own, "-o", tmp_path / "r.html", *asked)
    assert answer.status == UNFORESEEN and "Traceback" not in answer.err + answer.out
    assert "failed through a mistake of polytope-atlas (BinderException" in " ".join(answer.err.split())
    assert "For a report of this mistake" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "shown" in answer.out and "failed" in answer.out


class _Interrupted(Step):
    """Stops as Ctrl-C does when half of the work is done."""

    def update(self, done: int, total: int):
        if 2 * done >= total:
            raise KeyboardInterrupt


def test_an_interrupted_report_goes_on(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """In the middle of a measurement, of which no row is left."""
    only = ["density", "occupancy"]
    options: dict[str, Any] = {"network": IMAGES, "only": only, "controls": False, "quick": True}

    @contextmanager
    def step(self: TerminalProgress, name: str, **_: Any) -> Iterator[Step]:
        yield _Interrupted() if name.startswith("occupancy") else Step()

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TerminalProgress, "step", step)
        write_report(own, tmp_path / "r.html", **options)
    assert not (tmp_path / "r.html").exists()
    with atlas.open(own) as a:
        before = archive.stored(a)
        assert before["kind"].tolist() == ["density"]
    capsys.readouterr()
    blocks = write_report(own, tmp_path / "r.html", **options)
    told = capsys.readouterr().err
    assert "occupancy (demo-inceptionv1): done in" in told and "density (demo-inceptionv1): done in" not in told
    assert [block.experiment_id for block in blocks] == [1, 2]
    with atlas.open(own) as a:
        assert archive.stored(a)["kind"].tolist() == ["occupancy", "density"]
        assert archive.stored(a).iloc[1:].reset_index(drop=True).equals(before)


def test_impossible_reports_are_refused(demo_atlas: Path, tmp_path: Path, polytope: Run):
    with pytest.raises(UsageError, match="--only is 'clouds'; sections are slice, clusters"):
        write_report(demo_atlas, tmp_path / "r.html", only=["clouds"], controls=False)
    words = " ".join(polytope("report", "--help").out.replace("│", " ").split())
    assert f"Claims by key, by commas: {', '.join(claim.key for _, claim in claims())}." in words
    assert polytope("report", demo_atlas, "-o", tmp_path / "report.pdf").refuses("ends in .html")

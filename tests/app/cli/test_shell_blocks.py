"""Every line of a shell block in README and docs/ runs as a reader would run it, or stands below with its reason."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import atlas
from ingest.datasets.builtin import digit_images
from tests.app.cli.command import Run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

LEFT_OUT = {
    r"make |pip install|python -m tools\.": "installs or builds for minutes: CI, tests/tools",
    r"curl ": "tests/app/serving/test_reading.py runs it against a server",
    r"polytope (app|serve|mcp) ": "serves until it is stopped: test_serve.py, test_server.py",
    r"polytope (report|tour) ": "answers for a minute: test_report.py, test_start.py",
    r".* --ray ": "starts a cluster: tests/ingest/run/engines",
    r"polytope (ingest|sites|compare|cluster) .*(gpt2|inceptionv1|torchvision|timm|mypkg|llama|mine\.atlas)": (
        "needs weights or data that are not shipped: test_sites.py, test_compare.py, tests/ingest/networks"
    ),
    r"polytope experiment (polytopes|slice) ": "runs a network for a quarter of a minute: test_experiment.py",
    r"polytope (layout|export|neighbors) ": "compiles for half a minute: test_derived.py",
    r".* (lab|gpt2)\.atlas|mkdir heldout|images=": "is of the lab's data, for hours",
}
"""Beginnings of lines, as regular expressions, and why no line that begins so is run here; all of them are parsed."""

NAMED = {
    "3445": "1",
    "3500": "4",
    "3600": "9",
    "label = 'docstring' and loss < 1": "label = 'beginning'",
    "50": "5",
}
"""What the demo calls something or how many it takes, and what the tests do; in their atlas the digits came first."""


def blocks() -> Iterator[tuple[str, list[str]]]:
    """A name and the lines of every shell block; a line that goes on is one."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.finditer(r"^( *)```(sh|bash|console)\n(.*?)^\1```", text, re.M | re.S):
            lines = [line.strip() for line in block[3].replace("\\\n", " ").splitlines()]
            place = f"{page.relative_to(ROOT)}:{text[: block.start()].count(chr(10)) + 1}"
            yield place, [line for line in lines if line and not line.startswith("#")]


BLOCKS = dict(blocks())


def left_out(line: str) -> str | None:
    return next((reason for start, reason in LEFT_OUT.items() if re.match(start, line)), None)


RUN = {place: kept for place, lines in BLOCKS.items() if (kept := [line for line in lines if left_out(line) is None])}


@pytest.fixture(scope="module")
def folder(demo_atlas: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader is: with demo.atlas, a digit, and codes that something else computed."""
    place = tmp_path_factory.mktemp("reader")
    shutil.copytree(demo_atlas, place / "demo.atlas")
    next(iter(digit_images("heldout"))).image.save(place / "digit.png")
    return place


@pytest.mark.parametrize("place", RUN)
def test_shell_block_runs(place: str, folder: Path, polytope: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("POLYTOPE_CACHE", str(folder / "cache"))
    if any("codes.parquet" in line for line in RUN[place]):
        [code] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "INSTALL.md").read_text("utf-8"), re.S)
        exec(code, {})
    with atlas.open(folder / "demo.atlas") as a:
        tokens = "select example_id from examples where token is not null order by 1 limit 2"
        named = NAMED | dict(zip(("17", "42"), (str(token) for (token,) in a.rows(tokens)), strict=True))
    for line in RUN[place]:
        line = line.replace("s3://lab/", f"file://{folder}/lab/")  # an address too, which a machine alone reaches
        program, *words = (named.get(word, word) for word in shlex.split(line, comments=True))
        assert program == "polytope", line
        answer = polytope(*words)
        assert (answer.status, bool(answer.out + answer.err)) == (0, True), (line, answer.err)


def test_what_is_left_out_is_known() -> None:
    """No reason stands for nothing, and most lines of README about an atlas run."""
    lines = [line for lines in BLOCKS.values() for line in lines]
    assert {reason for line in lines if (reason := left_out(line))} == set(LEFT_OUT.values())
    assert sum(map(len, RUN.values())) >= 18

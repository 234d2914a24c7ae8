"""What docs/ says is what the code does: the page of public names, and the examples for contributors."""

import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import torch

import atlas
import ingest
import query
from app.explorer.parts import terms
from ingest.networks.registry import ADAPTERS, Adapter
from query.experiments import EXPERIMENTS
from tools import api_docs

DOCS = Path(__file__).parents[1] / "docs"
BLOCKS = re.findall(r"^( *)```python\n(.*?)^\1```", (DOCS / "CONTRIBUTING.md").read_text("utf-8"), re.M | re.S)
CODE = [textwrap.dedent(block) for _, block in BLOCKS]


def block_with(words: str) -> str:
    """The one example that holds these words."""
    [block] = [code for code in CODE if words in code]
    return block


def test_page_of_public_names_is_current():
    """`make docs` writes it."""
    assert api_docs.page() == api_docs.PAGE.read_text(encoding="utf-8")


def test_page_of_words_is_current():
    """`make docs` writes it; the explorer's tooltips say the same."""
    assert terms.page() == api_docs.WORDS.read_text(encoding="utf-8")


def test_pictures_are_there_and_small():
    """Every picture is shown by a page, is at most 300 kB, and all are at most 3 MB."""
    root = DOCS.parent
    pages = [root / "README.md", *DOCS.rglob("*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)]+\.png)\)", page.read_text("utf-8"))]
    shown = {(page.parent / link).resolve() for page, link in links}
    sizes = {path.resolve(): path.stat().st_size for path in DOCS.rglob("*.png")}
    assert shown == set(sizes)
    assert max(sizes.values()) <= 300_000 and sum(sizes.values()) <= 3_000_000


def test_contributed_query_counts_gates(built):
    example = ModuleType("gates_on")
    exec(block_with("def gates_on(atlas"), vars(example))
    with atlas.open(built) as a:
        site = next(site for site in a.catalog.sites if site.n_codes)
        table = example.gates_on(a, site=site.name, network=site.network)
        _, codes = a.codes([site])
    assert table["gates_on"].tolist() == codes.unpack().sum(axis=1).tolist()


def test_contributed_network_is_ingested(tmp_path, monkeypatch):
    """Its codes say where its activations are positive, and a search and `verify` take it as any other."""
    adapter = ModuleType("ingest.networks.perceptron")
    monkeypatch.setitem(sys.modules, "ingest.networks.perceptron", adapter)
    exec(block_with("class Perceptron"), vars(adapter))
    monkeypatch.setitem(ADAPTERS, "perceptron", Adapter("perceptron", "image"))
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 12), torch.nn.ReLU(), torch.nn.Linear(12, 10))
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    network = ingest.load_network("perceptron", weights=str(tmp_path / "weights.pt"))
    digits = ingest.open_dataset("builtin:digits-heldout", kind="image")
    ingest.ingest(tmp_path / "digits.atlas", network, digits, ingest.Choices(limit=20))
    with atlas.open(tmp_path / "digits.atlas") as a:
        ids, codes = a.codes([a.catalog.target(site="hidden").sites[0]])
        kept, h = a.activations(a.catalog.target(site="hidden").sites[0])
        assert len(query.nearest(a, example=int(ids[0]), site="hidden", k=3)) == 3
        assert query.verify(a)["ok"].all()
    assert ids.tolist() == kept.tolist() and (codes.unpack() == (h > 0)).all()
    assert h.shape == (20, 12) and h.any()


def test_experiments_stand_where_told():
    """Experiments are where the guide says."""
    folder = Path(query.__file__).parent / "experiments"
    assert all((folder / f"{name}.py").exists() for name in EXPERIMENTS)

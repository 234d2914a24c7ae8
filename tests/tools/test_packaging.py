"""The wheel works without the checkout, under the version of the tag; its papers are in order."""

import re
import shutil
import sys
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools import licences, try_pythons

ROOT = Path(__file__).parents[2]


def checkout(folder: Path) -> Path:
    """What a wheel is made of, without what git knows."""
    for package in ("atlas", "ingest", "query", "app"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.mark.slow
def test_wheel_works_under_its_tag(tmp_path, monkeypatch):
    """Unpacked elsewhere it helps, reads images and answers, and none of these loads TransformerLens."""
    monkeypatch.setenv("SETUPTOOLS_SCM_PRETEND_VERSION_FOR_POLYTOPE_ATLAS", "7.8.9")
    wheel = try_pythons.build_wheel(checkout(tmp_path / "source"), tmp_path / "wheel", isolated=False)
    assert wheel.name == "polytope_atlas-7.8.9-py3-none-any.whl"
    unpacked, work = tmp_path / "unpacked", tmp_path / "work"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    work.mkdir()
    ran = try_pythons.run_smoke(sys.executable, work, unpacked)
    assert ran.stdout.strip() == f"polytope-atlas 7.8.9 of {unpacked}", ran.stderr


def test_smoke_notices_what_is_loaded(tmp_path):
    """With a torch that anything loads on import, it would fail: here `atlas` itself loads it."""
    for name in ("atlas", "query"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("import torch")
    (tmp_path / "torch.py").touch()
    ran = try_pythons.run_smoke(sys.executable, tmp_path, tmp_path)
    assert ran.returncode and ran.stderr.strip() == "import atlas, query loads torch"


def test_every_licence_is_listed():
    """Of all packages that are asked for, directly or not."""
    listed = {dependency.name: dependency for dependency in licences.dependencies(["hub"])}
    asked = [Requirement(line) for line in requires("polytope-atlas") or []]
    direct = {canonicalize_name(of.name) for of in asked if of.marker is None or of.marker.evaluate({"extra": "hub"})}
    assert direct <= {*listed} and "datasets" in direct
    assert listed["duckdb"].licence and listed["numpy"].licence.startswith("BSD")
    assert listed["multiprocess"].needed_by == "datasets"
    assert [name for name, of in listed.items() if not of.licence] in (["cuda-toolkit"], [])


def test_citation_has_what_it_must():
    """CITATION.cff has the keys that its format demands, and names a licence that is ours."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= {*citation}
    assert citation["license"] == "MIT" and "arXiv:2211.12312" in str(citation["references"])
    assert all(author.get("name") or author.get("family-names") for author in citation["authors"])


def test_extras_are_named_where_told():
    """docs/INSTALL.md has a row for every extra."""
    rows = re.findall(r"^\| `\[(\w+)\]`", (ROOT / "docs" / "INSTALL.md").read_text("utf-8"), re.M)
    text = (ROOT / "pyproject.toml").read_text("utf-8").partition("[project.optional-dependencies]")[2]
    assert sorted(rows) == sorted(re.findall(r"^(\w+) = \[", text.partition("\n[")[0], re.M))

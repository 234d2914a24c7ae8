"""What an installed polytope-atlas must do, wherever it is installed: run with that environment's Python.

    python -P smoke.py FOLDER

Makes an atlas in FOLDER from the shipped network of images, asks it, and prints the version and where the packages
came from. Fails where looking at an atlas loads torch, or reading images any part of TransformerLens.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

OF_LANGUAGE_MODELS = {"transformer_lens", "transformers", "datasets", "accelerate"}


def loaded(names: set[str]) -> set[str]:
    """Those of some modules that are loaded by now."""
    return names & set(sys.modules)


def must_be_absent(names: set[str], after: str) -> None:
    """Raises `SystemExit` where one of the modules is loaded."""
    if loaded(names):
        raise SystemExit(f"{after} loads {', '.join(sorted(loaded(names)))}")


def smoke(folder: Path) -> None:
    """Import, ask for help, read images, look for neighbours, verify."""
    import atlas
    import query

    must_be_absent({"torch", "faiss", "streamlit", *OF_LANGUAGE_MODELS}, "import atlas, query")
    from typer.testing import CliRunner

    from app.cli.commands import cli

    run = CliRunner().invoke(cli, ["--help"])
    if run.exit_code or "ingest" not in run.output:
        raise SystemExit(f"polytope --help ends with {run.exit_code}: {run.output}")
    must_be_absent({"torch", *OF_LANGUAGE_MODELS}, "polytope --help")
    import ingest

    digits = ingest.open_dataset("builtin:digits-heldout", kind="image")
    network = ingest.load_network("demo:inceptionv1")
    choices = ingest.Choices(limit=5, sites=("inception5b",))
    ingest.ingest(folder / "smoke.atlas", network, digits, choices, cluster=False)
    must_be_absent(OF_LANGUAGE_MODELS, "reading images")
    with atlas.open(folder / "smoke.atlas") as a:
        neighbors = query.nearest(a, example=1, site="inception5b", k=3)
        if len(neighbors) != 3 or not query.verify(a)["ok"].all():
            raise SystemExit("the atlas of five digits is not in order")
    print(f"polytope-atlas {version('polytope-atlas')} of {Path(str(atlas.__file__)).parents[1]}")


if __name__ == "__main__":
    smoke(Path(sys.argv[1]))

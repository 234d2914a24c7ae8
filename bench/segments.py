"""What do segments cost beside tables, and what does an append cost?

    python -m bench.segments [--size small|full]

The same run, published into an atlas in tables and into segmented ones of 1 and 8 files a site, indexed, and asked in
turns: opening, the nearest, the ten rows that a search shows, four questions in SQL, all codes of a site in order.
Then a tenth more, published and indexed, beside the same into an empty atlas of the same form.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import atlas
import query
from atlas import Atlas
from bench.data import clustered_codes
from bench.nearest import SQL
from bench.publish import GATES, SITES, Staged, stage
from bench.report import in_turns, ratio, show
from ingest.derived.indexes import build_indexes
from ingest.run.publish import publish

SIZES = {"small": (10_000, 3), "full": (100_000, 5)}
"""Examples, rounds."""

FORMS = {"tables": 0, "1 segment": 1, "8 segments": 8}
SITE = "blocks.1.mlp"

QUESTIONS = {
    "gate by label": """
        select prediction, avg(is_on(code, 42)::int) from codes join examples using (example_id)
        where site_id = 1 group by prediction""",
    "gates on": "select avg(n_active), max(n_active) from codes where site_id = 1",
    "distinct codes": "select count(distinct code) from codes where site_id = 1",
    "Hamming": SQL.replace("$1", "17"),
    "site in order": "select example_id, cast(code as blob) as code from codes where site_id = 1 order by example_id",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", choices=SIZES, default="full")
    n, rounds = SIZES[parser.parse_args().size]
    packed = clustered_codes(n + n // 10, GATES, n // 500, seed=0).packed
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole, tenth = stage(folder / "whole", packed[:n]), stage(folder / "tenth", packed, first=n)
        paths = {form: add(folder / f"{parts}.atlas", whole, parts) for form, parts in FORMS.items()}
        title = f"{n:,} examples, {SITES} sites of {GATES:,} gates"
        show(f"{title}: ms, and times tables", asked(paths, n, rounds))
        show(f"{title}: a tenth more, s", appended(paths, tenth, folder, rounds))


def add(path: Path, staged: Staged, parts: int) -> Path:
    """Publish and index a run, in an atlas that is made if need be: in tables, or in so many files a site."""
    with atlas.create(path, segmented=parts > 0) as a:
        if parts:
            a.segment_examples = -(-staged.plan.n_examples // parts)
        publish(a, staged.network, staged.plan, str(staged.folder.name), staged.folder, datetime.now(UTC))
        build_indexes(a)
    return path


def asked(paths: dict[str, Path], n: int, rounds: int) -> list[dict[str, Any]]:
    """Every question to every form, in turns."""
    opened = {form: atlas.open(path) for form, path in paths.items()}
    generator = np.random.default_rng(0)

    def ten(a: Atlas) -> None:
        a.rows("from examples where example_id in (select unnest($1))", [generator.integers(1, n + 1, 10).tolist()])

    def near(a: Atlas) -> None:
        query.nearest(a, example=int(generator.integers(1, n + 1)), site=SITE, density=False)

    questions: dict[str, Callable[[Atlas], Any]] = {"nearest": near, "ten rows": ten}
    questions |= {question: partial(asking, sql) for question, sql in QUESTIONS.items()}
    rows = [row("open", in_turns({form: partial(opening, path) for form, path in paths.items()}, rounds))]
    for question, ask in questions.items():
        rows.append(row(question, in_turns({form: partial(ask, a) for form, a in opened.items()}, rounds)))
    for a in opened.values():
        a.close()
    return rows


def asking(sql: str, a: Atlas) -> None:
    a.columns(sql)


def opening(path: Path) -> None:
    with atlas.open(path) as a:
        a.value("select count(*) from examples")


def row(question: str, seconds: dict[str, list[float]]) -> dict[str, Any]:
    found: dict[str, Any] = {"question": question}
    for form, taken in seconds.items():
        found[form] = 1000 * statistics.median(taken)
        if form != "tables":
            found[f"{form} ×"] = ratio(taken, seconds["tables"])
    found["8 × 1"] = ratio(seconds["8 segments"], seconds["1 segment"])
    return found


def appended(paths: dict[str, Path], tenth: Staged, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Seconds to publish and index a tenth more, and the same into an empty atlas; bytes of the atlas before."""
    rows = []
    for form in ("tables", "1 segment"):
        taken: dict[str, list[float]] = {"to all": [], "to none": []}
        for _ in range(min(3, rounds)):
            for where in taken:
                place = folder / "appended.atlas"
                if where == "to all":
                    shutil.copytree(paths[form], place)
                else:
                    atlas.create(place, segmented=FORMS[form] > 0).close()
                started = time.perf_counter()
                add(place, tenth, FORMS[form])
                taken[where].append(time.perf_counter() - started)
                shutil.rmtree(place)
        seconds = {where: statistics.median(times) for where, times in taken.items()}
        times = ratio(taken["to all"], taken["to none"])
        rows.append({"form": form, **seconds, "×": times, "MB": megabytes(paths[form])})
    return rows


def megabytes(path: Path) -> float:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6


if __name__ == "__main__":
    main()

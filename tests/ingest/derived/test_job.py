"""What all jobs share: results wait for whoever has the atlas open, and go into one that the caller writes."""

from contextlib import ExitStack
from pathlib import Path

import atlas
from ingest.derived.clusters import cluster
from tests.ingest.runs import SITES, Watching, held, rows, small_run, small_texts


def test_a_result_waits_for_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "a"
    small_run(path, small_texts(tmp_path / "words"), cluster=False)
    with ExitStack() as reader:
        reader.enter_context(held(path, writable=False))
        closes = Watching(lambda step, number: reader.close() if step.startswith("wait until") else None)
        number = cluster(path, site=SITES[0], progress=closes)
    assert rows(path, "select clustering_id, target from clusterings") == [(number, SITES[0])]


def test_a_job_works_in_an_open_atlas(tmp_path: Path) -> None:
    path = tmp_path / "a"
    small_run(path, small_texts(tmp_path / "words"), cluster=False)
    with atlas.open(path, writable=True) as a:
        number = cluster(a, site=SITES[0])
        assert cluster(a, site=SITES[0]) == number
    assert rows(path, "select clustering_id, target from clusterings") == [(number, SITES[0])]

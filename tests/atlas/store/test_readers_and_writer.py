"""Readers and a committer at once, by the code of the bench."""

from pathlib import Path

from bench.readers import reading_while_it_grows


def test_readers_see_whole_versions(tmp_path: Path) -> None:
    """Two ask while versions are committed: no answer is wrong."""
    commits, found = reading_while_it_grows(tmp_path / "a.atlas", 2, 60, lambda commits: commits < 3)
    assert commits == 3 and len(found) == 2
    assert all(reader.turns >= 5 and reader.wrong == 0 for reader in found)
    assert max(reader.versions for reader in found) > 1

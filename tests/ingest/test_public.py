"""What `import ingest` offers."""

import ingest


def test_every_public_name_resolves() -> None:
    assert sorted(name for name in ingest.__all__ if callable(getattr(ingest, name))) == ingest.__all__


def test_public_names_are_documented() -> None:
    assert [name for name in ingest.__all__ if not getattr(ingest, name).__doc__] == []


def test_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(ingest, "no_such_name")

"""An atlas on disk. The only folder that imports duckdb."""

from .atlas import Atlas, create, open

__all__ = ["Atlas", "create", "open"]

"""An atlas on disk. The only folder that imports duckdb."""

from .atlas import Atlas
from .opening import create, open

__all__ = ["Atlas", "create", "open"]

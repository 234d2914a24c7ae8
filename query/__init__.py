"""Questions, each answered from an open atlas. Loads neither a network nor torch.

Every function takes an `atlas.Atlas` first. What has to be read live (a text or an image that was never ingested) is
read by a network that the caller hands in as ``reader``.

>>> import atlas, query
>>> with atlas.open("demo.atlas") as a:
...     query.nearest(a, example=17, site="blocks.2.mlp", k=5)
"""

from .classes import class_density
from .clusters import clusterings, clusters, members
from .density import density
from .info import info
from .many import nearest_many, neighborhoods
from .membership import membership
from .neighbors import nearest
from .sql import sql
from .verify import verify

__all__ = [
    "class_density",
    "clusterings",
    "clusters",
    "density",
    "info",
    "members",
    "membership",
    "nearest",
    "nearest_many",
    "neighborhoods",
    "sql",
    "verify",
]

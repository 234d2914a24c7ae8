"""Questions, each answered from an open atlas. Loads neither a network nor torch.

Every function takes an `atlas.Atlas` first. What has to be read live (a text or an image that was never ingested) is
read by a network that the caller hands in as ``reader``.

>>> import atlas, query
>>> with atlas.open("demo.atlas") as a:
...     query.nearest(a, example=17, site="blocks.2.mlp", k=5)
"""

from .belonging import fate, member_counts, member_flow, near_clusters
from .classes import class_density
from .clusters import clusterings, clusters, members
from .density import density
from .info import info
from .layouts import layout_examples, layout_points, layouts
from .many import nearest_many, neighborhoods
from .membership import membership
from .names import cluster_names, name_cluster
from .neighbors import nearest
from .pairs import gates_apart
from .rasters import cluster_path, differing_gates, passage, rasters
from .sql import sql
from .units import unit, units
from .verify import verify

__all__ = [
    "class_density",
    "cluster_names",
    "cluster_path",
    "clusterings",
    "clusters",
    "density",
    "differing_gates",
    "fate",
    "gates_apart",
    "info",
    "layout_examples",
    "layout_points",
    "layouts",
    "member_counts",
    "member_flow",
    "members",
    "membership",
    "name_cluster",
    "near_clusters",
    "nearest",
    "nearest_many",
    "neighborhoods",
    "passage",
    "rasters",
    "sql",
    "unit",
    "units",
    "verify",
]

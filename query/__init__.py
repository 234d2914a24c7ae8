"""Questions, each answered from an open atlas. Loads neither a network nor torch.

Every function takes an `atlas.Atlas` first. What has to be read live (a text or an image that was never ingested) is
read by a network that the caller hands in as ``reader``.

>>> import atlas, query
>>> with atlas.open("demo.atlas") as a:
...     query.nearest(a, example=17, site="blocks.2.mlp", k=5)
"""

from .clustering.names import cluster_names, name_cluster
from .clustering.placing import membership
from .clustering.relations import fate, member_counts, member_flow, near_clusters
from .clustering.stored import clusterings, clusters, members
from .examples.rasters import cluster_path, differing_gates, passage, rasters
from .layout.stored import layout_examples, layout_points, layouts
from .neighbors.batch import nearest_many, neighborhoods
from .neighbors.one import nearest
from .neurons.units import unit, units
from .pairs.classes import class_density
from .pairs.density import density
from .pairs.gates_apart import gates_apart
from .store.contents import info
from .store.queries import sql
from .store.verification import verify

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

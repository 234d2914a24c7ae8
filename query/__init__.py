"""Questions, each answered from an open atlas. Loads neither a network nor torch.

Every function takes an `atlas.Atlas` first. What has to be read live (a text or an image that was never ingested) is
read by a network that the caller hands in as ``reader``.

>>> import atlas, query
>>> with atlas.open("demo.atlas") as a:
...     query.nearest(a, example=17, site="blocks.2.mlp", k=5)
"""

import inspect

from .clustering.clusterings import clusterings
from .clustering.clusters import clusters, member_counts, members, near_clusters
from .clustering.distinctive import distinctive_gates
from .clustering.flow import cluster_path, fate, member_flow
from .clustering.made_names import made_names
from .clustering.membership import membership
from .clustering.names import cluster_names, name_cluster
from .examples.passages import passage
from .examples.rasters import rasters
from .examples.search import find
from .examples.subjects import Subject, subject
from .examples.tags import save_view, saved_views, tag_examples, tags
from .layout.layouts import layout_points, layouts
from .layout.regions import layout_examples
from .neighbors.nearest import nearest
from .neighbors.nearest_many import nearest_many
from .neighbors.nearness import nearness
from .neighbors.neighborhoods import neighborhoods
from .networks.comparison import Comparison, compare
from .neurons.units import unit, units
from .pairs.class_density import class_density
from .pairs.density import density
from .pairs.differing_gates import differing_gates, gates_apart
from .pairs.telling_gates import telling_gates
from .polytope.batch import StoredBoundaries, store_boundaries
from .polytope.boundaries import Boundaries, boundaries
from .polytope.exits import Exits, exits
from .polytope.neighbor_polytopes import NeighborPolytopes, neighbor_polytopes
from .polytope.region import Region, region
from .remote.dispatch import dispatched
from .store.contents import info
from .store.queries import sql
from .store.verification import verify

__all__ = [
    "Boundaries",
    "Comparison",
    "Exits",
    "NeighborPolytopes",
    "Region",
    "StoredBoundaries",
    "Subject",
    "boundaries",
    "class_density",
    "cluster_names",
    "cluster_path",
    "clusterings",
    "clusters",
    "compare",
    "density",
    "differing_gates",
    "distinctive_gates",
    "exits",
    "fate",
    "find",
    "gates_apart",
    "info",
    "layout_examples",
    "layout_points",
    "layouts",
    "made_names",
    "member_counts",
    "member_flow",
    "members",
    "membership",
    "name_cluster",
    "near_clusters",
    "nearest",
    "nearest_many",
    "nearness",
    "neighbor_polytopes",
    "neighborhoods",
    "passage",
    "rasters",
    "region",
    "save_view",
    "saved_views",
    "sql",
    "store_boundaries",
    "subject",
    "tag_examples",
    "tags",
    "telling_gates",
    "unit",
    "units",
    "verify",
]

WRITES = frozenset({"name_cluster", "save_view", "store_boundaries", "tag_examples"})
"""The public functions that write, which no server of an atlas answers; it answers all others."""

for _name in __all__:
    if inspect.isfunction(globals()[_name]):
        _refused = f"{_name} writes, and a served atlas is only read; ask where it lies on disk"
        globals()[_name] = dispatched(globals()[_name], refused=_refused if _name in WRITES else None)

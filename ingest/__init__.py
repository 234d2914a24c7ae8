"""From a network and data to an atlas.

>>> import ingest
>>> network = ingest.load_network("demo:gpt2")
>>> dataset = ingest.open_dataset("builtin:python-heldout", kind="text")
>>> ingest.ingest("demo.atlas", network, dataset, ingest.Choices(limit=100))

A name is imported when it is first used: loading a network takes torch, clustering takes hdbscan, and what only looks
at a dataset or at a plan needs neither.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .datasets.base import BadItem, Dataset, Item
    from .datasets.coded import open_codes
    from .datasets.sources import open_dataset
    from .derived.clusters import cluster
    from .derived.indexes import Built, build_indexes
    from .derived.layouts import layout
    from .derived.neighbors import store_neighbors
    from .networks import load_control, load_network, network_kind, reload_network
    from .networks.module_weights import network
    from .networks.sae import sparse_autoencoder
    from .progress import Progress, Step
    from .run.engines import Engine, LocalEngine
    from .run.plan import Choices
    from .run.ray_engine import RayEngine
    from .run.run import Outcome, calibration_inputs, ingest
    from .run.sampling import ImageSampling, TokenSampling
    from .sharing.convert import convert
    from .sharing.pull import Pulled, pull
    from .sharing.push import Pushed, push

__all__ = [
    "BadItem",
    "Built",
    "Choices",
    "Dataset",
    "Engine",
    "ImageSampling",
    "Item",
    "LocalEngine",
    "Outcome",
    "Progress",
    "Pulled",
    "Pushed",
    "RayEngine",
    "Step",
    "TokenSampling",
    "build_indexes",
    "calibration_inputs",
    "cluster",
    "convert",
    "ingest",
    "layout",
    "load_control",
    "load_network",
    "network",
    "network_kind",
    "open_codes",
    "open_dataset",
    "pull",
    "push",
    "reload_network",
    "sparse_autoencoder",
    "store_neighbors",
]

_MODULES = {
    ".datasets.base": ("BadItem", "Dataset", "Item"),
    ".datasets.coded": ("open_codes",),
    ".datasets.sources": ("open_dataset",),
    ".derived.clusters": ("cluster",),
    ".derived.indexes": ("Built", "build_indexes"),
    ".derived.layouts": ("layout",),
    ".derived.neighbors": ("store_neighbors",),
    ".networks": ("load_control", "load_network", "network_kind", "reload_network"),
    ".networks.module_weights": ("network",),
    ".networks.sae": ("sparse_autoencoder",),
    ".progress": ("Progress", "Step"),
    ".run.engines": ("Engine", "LocalEngine"),
    ".run.plan": ("Choices",),
    ".run.ray_engine": ("RayEngine",),
    ".run.run": ("Outcome", "calibration_inputs", "ingest"),
    ".run.sampling": ("ImageSampling", "TokenSampling"),
    ".sharing.convert": ("convert",),
    ".sharing.pull": ("Pulled", "pull"),
    ".sharing.push": ("Pushed", "push"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""The store: an atlas on disk, its codes, indexes and hierarchies. Loads neither torch nor streamlit.

>>> import atlas
>>> with atlas.open("demo.atlas") as a:
...     a.sql("select label, avg(is_on(code, 42)::int) from spline_codes where site = 'inception4e' group by label")
"""

from .codes import SplineCodes, concatenate, hamming, jaccard
from .network import Network, Reading, Site, Span
from .remote import RemoteAtlas, connect
from .store.atlas import Atlas
from .store.opening import create, open
from .store.vacuum import vacuum

__all__ = [
    "Atlas",
    "Network",
    "Reading",
    "RemoteAtlas",
    "Site",
    "Span",
    "SplineCodes",
    "concatenate",
    "connect",
    "create",
    "hamming",
    "jaccard",
    "open",
    "vacuum",
]

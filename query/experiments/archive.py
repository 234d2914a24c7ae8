"""Results kept in the atlas, so that nothing is computed twice: tables ``experiments`` and ``directions``.

A question is an experiment, a network, the parameters as they were asked for, and the data. Asked again, it is
answered from here; computed again all the same (after a change of the software, say), it replaces its answer under
the same id. Every result is one row, written in one transaction: an interrupted experiment leaves none.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from atlas import Atlas, Network, Span
from atlas.errors import UnknownName, UsageError
from atlas.network import FULL_SUFFIX
from atlas.store.catalog import NetworkRecord

from .controls import controls_of
from .record import Experiment
from .registry import EXPERIMENTS, draw, find
from .result import Result
from .targets import stored_direction

MADE = ("random", "unit")
"""Directions of a slice that are made on the spot; any other method names stored ones."""

FLOAT = "$float"
"""Key that marks a number which JSON cannot write: ``{"$float": "nan"}``, ``"inf"`` or ``"-inf"``."""


def save(atlas: Atlas, result: Result) -> int:
    """Store a result and return its id; an older answer to the same question on the same data is replaced.

    The atlas must be open for writing (`UsageError` otherwise). Raises `UnknownName` for a network that it does not
    hold, `TypeError` where a parameter or a cell is nothing that JSON can hold.
    """
    if not atlas.writable:
        raise UsageError(f"{atlas.path} is open for reading; open it for writing to store a result")
    network = None if result.network is None else atlas.catalog.network(result.network)
    asked = _question(result.asked or result.parameters)
    digest = data_digest(atlas, result.kind, result.network, result.parameters)
    row = {
        "kind": result.kind,
        "network_id": None if network is None else network.network_id,
        "asked": asked,
        "parameters": _dumps(result.parameters),
        "data_digest": digest,
        "result": _dumps(
            {
                "tables": {name: _columns(name, table) for name, table in result.tables.items()},
                "notes": list(result.notes),
            }
        ),
    }
    known = _find(atlas, result.kind, network, asked, digest)
    with atlas.transaction():
        number = known or 1 + int(atlas.value("select coalesce(max(experiment_id), 0) from experiments"))
        for table in ("experiments", "directions"):
            atlas.execute(f"delete from {table} where experiment_id = $1", [number])
        atlas.insert("experiments", pa.Table.from_pylist([{"experiment_id": number, **row}], schema=_SCHEMA))
        _save_directions(atlas, result, number)
    return number


def load(atlas: Atlas, experiment_id: int) -> Result:
    """A stored result, equal to what was saved but for its ``directions``, which stay in their table.

    Raises `UnknownName` where there is none of that id.
    """
    rows = atlas.records(
        """
        select experiments.kind, networks.name as network, asked, parameters, result
        from experiments left join networks using (network_id)
        where experiment_id = $1
        """,
        [experiment_id],
    )
    if not rows:
        held = ", ".join(str(n) for (n,) in atlas.rows("select experiment_id from experiments order by all"))
        raise UnknownName(f"no experiment {experiment_id} in {atlas.path}; it holds {held or 'none'}")
    [row] = rows
    outcome = _loads(row["result"])
    return Result(
        row["kind"],
        row["network"],
        _loads(row["parameters"]),
        {name: _frame(columns) for name, columns in outcome["tables"].items()},
        tuple(outcome["notes"]),
        _loads(row["asked"]),
        draw=draw,
    )


def stored(atlas: Atlas, kind: str | None = None) -> pd.DataFrame:
    """The results that are stored, of one kind or of all, oldest first.

    Columns: experiment_id, kind, network, parameters (a dictionary), current. ``current`` is False where the data
    that a result rests on has changed since: run the experiment again.
    """
    rows = atlas.records(
        """
        select experiment_id, experiments.kind, networks.name as network, parameters, data_digest
        from experiments left join networks using (network_id)
        where $1 is null or experiments.kind = $1
        order by experiment_id
        """,
        [kind],
    )
    for row in rows:
        row["parameters"] = _loads(row["parameters"])
        row["current"] = row.pop("data_digest") == data_digest(atlas, row["kind"], row["network"], row["parameters"])
    return pd.DataFrame(rows, columns=["experiment_id", "kind", "network", "parameters", "current"])


def recall(
    atlas: Atlas,
    experiment: Experiment,
    network: str | None,
    options: Mapping[str, Any],
    controls: Mapping[str, Network] | None = None,
) -> int | None:
    """Id of the stored answer to this very question on the data as it is now; None where there is none.

    ``network`` is the one that the result is of; ``options`` and ``controls`` are those of `Experiment.run`.
    """
    record = None if network is None else atlas.catalog.network(network)
    asked = experiment.question(options, controls)
    rows = atlas.rows(
        "select experiment_id, parameters, data_digest from experiments "
        "where kind = $1 and network_id is not distinct from $2 and asked = $3::json order by experiment_id desc",
        [experiment.name, None if record is None else record.network_id, _question(asked)],
    )
    for number, parameters, digest in rows:
        if digest == data_digest(atlas, experiment.name, network, _loads(parameters)):
            return int(number)
    return None


def answered(atlas: Atlas, experiment: Experiment, network: str | None, options: Mapping[str, Any]) -> int | None:
    """Id of the newest stored answer to a question on the data as it is now, whatever controls stood beside it.

    `recall` needs the controls to tell one answer from another; this asks for none, and so does without weights.
    None where there is no answer; `UsageError` for an option that the experiment does not have, where it is looked
    for among others.
    """
    record = None if network is None else atlas.catalog.network(network)
    rows = atlas.rows(
        "select experiment_id, asked, parameters, data_digest from experiments "
        "where kind = $1 and network_id is not distinct from $2 order by experiment_id desc",
        [experiment.name, None if record is None else record.network_id],
    )
    if not rows:  # the module of the experiment, which may take a second to load, need not be
        return None
    question = _loads(_question(experiment.question(options)))
    for number, asked, parameters, digest in rows:
        same = {name: value for name, value in _loads(asked).items() if name != "controls"} == question
        if same and digest == data_digest(atlas, experiment.name, network, _loads(parameters)):
            return int(number)
    return None


def shelf(atlas: Atlas, network: str | None = None) -> pd.DataFrame:
    """What is stored, newest first: of all networks, or of one and of several on equal terms.

    Columns: experiment_id, kind, network (None for several), asked (a dictionary of the options that were asked for
    otherwise than by default, ``controls`` among them where untrained networks stood beside), current: asked again,
    the answer would be this one, because the data that it rests on has not changed.
    """
    rows = atlas.records(
        """
        select experiment_id, experiments.kind, networks.name as network, asked, parameters, data_digest
        from experiments left join networks using (network_id)
        where $1 is null or networks.name is null or networks.name = $1
        order by experiment_id desc
        """,
        [network],
    )
    for row in rows:
        fields = find(row["kind"]).fields if row["kind"] in EXPERIMENTS else {}
        defaults = _loads(_question({name: o.default for name, o in fields.items() if not o.required}))
        asked, parameters = _loads(row["asked"]), _loads(row.pop("parameters"))
        row["asked"] = {name: value for name, value in asked.items() if (name, value) not in defaults.items()}
        row["current"] = row.pop("data_digest") == data_digest(atlas, row["kind"], row["network"], parameters)
    return pd.DataFrame(rows, columns=["experiment_id", "kind", "network", "asked", "current"])


def as_json(result: Result, experiment_id: int | None = None) -> str:
    """The result as indented JSON, tables as records; NaN and infinities written as `FLOAT` says."""
    document = {
        "experiment_id": experiment_id,
        "kind": result.kind,
        "network": result.network,
        "parameters": result.parameters,
        "tables": {name: table.to_dict("records") for name, table in result.tables.items()},
        "notes": list(result.notes),
    }
    return json.dumps(_plain(document), ensure_ascii=False, allow_nan=False, indent=1)


def data_digest(atlas: Atlas, kind: str, network: str | None, parameters: Mapping[str, Any]) -> str:
    """SHA-256 over what a result rests on: weights, codes, activations and labels of its networks.

    Its networks are ``network`` and those that the parameter ``beside`` names, or, where ``network`` is None, all
    that the atlas holds. Where the numbers of this kind depend on clusterings, those count too; where they follow
    directions that another experiment found, the vectors; and where untrained controls of the atlas stand beside,
    which of them there are.
    """
    beside = set(parameters.get("beside") or ())
    records = [r for r in atlas.catalog.networks if network is None or r.name == network or r.name in beside]
    experiment = find(kind) if kind in EXPERIMENTS else None
    digest = hashlib.sha256()
    for record in records:
        lines: list[Any] = [record.name, record.weights_digest]
        if experiment is not None and experiment.beside and record.name == network:
            lines += sorted(other.name for other in controls_of(atlas, record))
        lines += [(s.name, s.codes_digest, s.activations_digest) for s in atlas.catalog.sites_of(record)]
        lines += _labels(atlas, record)
        if experiment is None or experiment.clusterings:
            lines += atlas.rows(
                "select clustering_id, target, space, data_digest from clusterings "
                "where network_id = $1 order by all",
                [record.network_id],
            )
        if record.name == network:
            lines += _vectors(atlas, record, parameters)
        digest.update("\n".join(map(repr, lines)).encode())
    return digest.hexdigest()


_SCHEMA = pa.schema(
    [
        ("experiment_id", pa.uint32()),
        ("kind", pa.string()),
        ("network_id", pa.uint16()),
        ("asked", pa.string()),
        ("parameters", pa.string()),
        ("data_digest", pa.string()),
        ("result", pa.string()),
    ]
)


def _labels(atlas: Atlas, network: NetworkRecord) -> list[Any]:
    return atlas.rows(
        "select label, count(*), sum(example_id) from examples where network_id = $1 group by label order by all",
        [network.network_id],
    )


def _vectors(atlas: Atlas, network: NetworkRecord, parameters: Mapping[str, Any]) -> list[Any]:
    """Of each stored direction that a result follows, its place and a digest of what it is now (None: it is gone).

    A projection names site, method and component; a slice METHOD:COMPONENT, at the site that its span starts after.
    """
    used: list[tuple[str, str, int]] = []
    if all(parameters.get(name) is not None for name in ("site", "method", "component")):
        used.append((parameters["site"], parameters["method"], int(parameters["component"])))
    for name in parameters.get("directions") or ():
        method, _, number = name.partition(":")
        if method not in MADE:
            span = Span.parse(parameters["span"])
            used.append((span.after + (FULL_SUFFIX if span.scope == "full" else ""), method, int(number)))
    found = [(place, stored_direction(atlas, network, *place)) for place in used]
    return [
        (*place, None if held is None else hashlib.sha256(held[1].tobytes()).hexdigest()) for place, held in found
    ]


def _question(asked: Mapping[str, Any]) -> str:
    """In one canonical form; without the network, which has a column: the only one of an atlas need not be named."""
    return _dumps({name: asked[name] for name in sorted(asked) if name != "network"})


def _find(atlas: Atlas, kind: str, network: NetworkRecord | None, asked: str, digest: str) -> int | None:
    found = atlas.value(
        "select max(experiment_id) from experiments where kind = $1 and network_id is not distinct from $2 "
        "and asked = $3::json and data_digest = $4",
        [kind, None if network is None else network.network_id, asked, digest],
    )
    return None if found is None else int(found)


def _save_directions(atlas: Atlas, result: Result, number: int) -> None:
    if not result.directions:
        return
    sites = {site.name: site for site in atlas.catalog.sites if site.network == result.network}
    record = atlas.catalog.network(result.network)
    for found in result.directions:
        explained = found.explained or (None,) * len(found.vectors)
        atlas.insert(
            "directions",
            pa.table(
                {
                    "experiment_id": [number] * len(found.vectors),
                    "network_id": [record.network_id] * len(found.vectors),
                    "site_id": [sites[found.site].site_id] * len(found.vectors),
                    "method": [found.method] * len(found.vectors),
                    "component": np.arange(len(found.vectors)),
                    "vector": list(found.vectors),
                    "explained": pa.array(explained, pa.float64()),
                }
            ),
        )


# --- tables as JSON --------------------------------------------------------------------------------------------


def _columns(name: str, table: pd.DataFrame) -> dict[Any, Any]:
    if not all(isinstance(column, str) for column in table.columns) or not table.columns.is_unique:
        raise TypeError(f"table {name!r} needs distinct column names, all strings, got {list(table.columns)}")
    return {
        column: {"dtype": _dtype(name, values), "values": [_cell(value, values) for value in values]}
        for column, values in table.items()
    }


_KINDS = "biufO"
"""Kinds of NumPy that come back as they were: booleans, integers, floats, objects that JSON can hold."""


def _dtype(name: str, column: pd.Series) -> str:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return _dtype(name, pd.Series(column.cat.categories))
    if column.dtype.kind not in _KINDS:
        raise TypeError(f"column {column.name!r} of table {name!r} is {column.dtype}, which is not stored")
    return str(column.dtype)


def _cell(value: Any, column: pd.Series) -> Any:
    """In a column of numbers or strings a missing value is null; in one of objects NaN and None differ."""
    if column.dtype != object and pd.api.types.is_scalar(value) and pd.isna(value):
        return None
    return value


def _frame(columns: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(
        {name: pd.Series(column["values"], dtype=column["dtype"]) for name, column in columns.items()}
    )


def _dumps(value: Any) -> str:
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _loads(text: str) -> Any:
    return json.loads(text, object_hook=lambda value: float(value[FLOAT]) if set(value) == {FLOAT} else value)


def _plain(value: Any) -> Any:
    """NumPy's scalars and arrays, tuples, NaN and infinities as what JSON knows."""
    if isinstance(value, np.generic | np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else {FLOAT: str(value)}
    if isinstance(value, Mapping):
        if FLOAT in value or not all(isinstance(key, str) for key in value):
            raise TypeError(f"a stored mapping has strings as keys, and not {FLOAT!r}; got {list(value)}")
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | int | bool):
        return value
    raise TypeError(f"JSON can't hold {value!r} ({type(value).__name__})")

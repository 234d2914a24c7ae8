"""Results kept in the atlas, so that nothing is computed twice: tables ``experiments``, ``experiment_columns``,
``experiment_rows`` and ``directions``.

A question is an experiment in one version, a network, the options that it was asked with, and the data. Asked again,
it is answered from here; computed again all the same, it replaces its answer under the same id. A result is stored in
one transaction: an interrupted experiment leaves nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from atlas import Atlas, Network
from atlas.errors import UnknownName, UsageError
from atlas.store.digests import seal

from .digests import data_digest
from .record import Experiment, names_of_clusterings
from .registry import EXPERIMENTS, draw, find
from .result import Result
from .schema import Column
from .stored_json import dtypes_of, dumps, loads, plain, rows_of, table_of_rows

PROJECT = "polytope-atlas"


def save(atlas: Atlas, result: Result) -> int:
    """Store a result and return its id; an older answer to the same question on the same data is replaced.

    The atlas must be open for writing (`UsageError` otherwise). Raises `UnknownName` for a network that it does not
    hold, `TypeError` where a parameter or a cell is nothing that JSON can hold.
    """
    if not atlas.writable:
        raise UsageError(f"{atlas.address} is open for reading; open it for writing to store a result")
    network = None if result.network is None else atlas.catalog.network(result.network)
    question = {
        "kind": result.kind,
        "network_id": None if network is None else network.network_id,
        "options": _question(result.options or result.parameters),
        "data_digest": data_digest(atlas, result.kind, result.network, result.parameters),
    }
    answer = {
        "version": find(result.kind).version,
        "parameters": dumps(result.parameters),
        "notes": list(result.notes),
        "made_at": datetime.now(UTC).replace(tzinfo=None),
        "made_by": f"{PROJECT} {version(PROJECT)}",
    }
    dtypes = {name: dtypes_of(name, table) for name, table in result.tables.items()}
    rows = {name: rows_of(table, dtypes[name]) for name, table in result.tables.items()}
    with atlas.transaction():
        number = _free_id(atlas, question)
        for table in ("experiments", "experiment_columns", "experiment_rows", "directions"):
            atlas.execute(f"delete from {table} where experiment_id = $1", [number])
        row = {"experiment_id": number, **question, **answer}
        atlas.insert("experiments", pa.Table.from_pylist([row], schema=_EXPERIMENTS))
        atlas.insert("experiment_columns", _columns(result.kind, number, dtypes))
        for name, cells in rows.items():
            atlas.insert("experiment_rows", _rows(number, name, cells))
        _save_directions(atlas, result, number)
        seal(atlas, experiment_id=number)
    return number


def load(atlas: Atlas, experiment_id: int) -> Result:
    """A stored result, equal to what was saved but for its ``directions``, which stay in their table.

    Args:
        atlas: an open atlas.
        experiment_id: id of the experiment, as `stored` lists them.

    Returns:
        The experiment's kind, network, parameters, tables by name, notes and options; its ``figure()`` is drawn from
        these.

    Raises:
        UnknownName: no experiment of that id.
    """
    rows = atlas.records(
        """
        select experiments.kind, networks.name as network, options, parameters, notes
        from experiments left join networks using (network_id)
        where experiment_id = $1
        """,
        [experiment_id],
    )
    if not rows:
        held = ", ".join(str(n) for (n,) in atlas.rows("select experiment_id from experiments order by all"))
        raise UnknownName(f"no experiment {experiment_id} in {atlas.address}; it holds {held or 'none'}")
    [row] = rows
    parameters = loads(row["parameters"])
    return Result(
        row["kind"],
        row["network"],
        parameters,
        _tables(atlas, experiment_id),
        tuple(row["notes"]),
        loads(row["options"]),
        cluster_names=names_of_clusterings(atlas, parameters),
        draw=draw,
    )


def recall(
    atlas: Atlas,
    experiment: Experiment,
    network: str | None,
    options: Mapping[str, Any],
    controls: Mapping[str, Network] | Literal["any"] | None = None,
) -> int | None:
    """Id of the newest stored answer to this very question, on the data and by the experiment as they are now.

    ``network`` is the one that the result is of; ``options`` and ``controls`` are those of `Experiment.run`. Controls
    "any" asks for no particular ones, and so can do without loading any. None where there is no answer; raises
    `UsageError` for an option that the experiment does not have.
    """
    record = None if network is None else atlas.catalog.network(network)
    rows = atlas.rows(
        """
        select experiment_id, options, parameters, data_digest from experiments
        where kind = $1 and version = $2 and network_id is not distinct from $3
        order by experiment_id desc
        """,
        [experiment.name, experiment.version, None if record is None else record.network_id],
    )
    question = loads(_question(experiment.question(options, None if controls == "any" else controls)))
    for number, stored_options, parameters, digest in rows:
        asked = loads(stored_options)
        if controls == "any":
            asked.pop("controls", None)
        if asked == question and digest == data_digest(atlas, experiment.name, network, loads(parameters)):
            return int(number)
    return None


def stored(atlas: Atlas, kind: str | None = None, network: str | None = None) -> pd.DataFrame:
    """The results of experiments that are stored, newest first.

    Args:
        atlas: an open atlas.
        kind: only those of an experiment of that name.
        network: only those of that network, and of several on equal terms.

    Returns:
        A row a result: experiment_id, kind, network (None for several), options (a dictionary of those that were
        asked for otherwise than by default, ``controls`` among them where untrained networks stood beside),
        parameters (a dictionary), made_at, made_by, current, outdated. Asked again, a question with a current answer
        has this one; ``outdated`` says why one is not: the data that it rests on have changed since, or the
        experiment has.
    """
    rows = atlas.records(
        """
        select experiment_id, experiments.kind, version, networks.name as network, options, parameters, data_digest,
            made_at, made_by
        from experiments left join networks using (network_id)
        where ($1 is null or experiments.kind = $1) and ($2 is null or networks.name is null or networks.name = $2)
        order by experiment_id desc
        """,
        [kind, network],
    )
    for row in rows:
        row["parameters"] = loads(row["parameters"])
        row["options"] = _chosen(row["kind"], loads(row["options"]))
        row["outdated"] = _outdated(atlas, row)
        row["current"] = not row["outdated"]
    names = ["experiment_id", "kind", "network", "options", "parameters", "made_at", "made_by", "current", "outdated"]
    return pd.DataFrame(rows, columns=names).astype({"current": bool})


def as_json(result: Result, experiment_id: int | None = None) -> str:
    """The result as indented JSON, tables as records; NaN and infinities written as `stored_json.FLOAT` says."""
    document = {
        "experiment_id": experiment_id,
        "kind": result.kind,
        "network": result.network,
        "parameters": result.parameters,
        "tables": {name: table.to_dict("records") for name, table in result.tables.items()},
        "notes": list(result.notes),
    }
    return json.dumps(plain(document), ensure_ascii=False, allow_nan=False, indent=1)


# --- questions ---------------------------------------------------------------------------------------------------


def _question(options: Mapping[str, Any]) -> str:
    """In one canonical form; without the network, which has a column: the only one of an atlas need not be named."""
    return dumps({name: options[name] for name in sorted(options) if name != "network"})


def _chosen(kind: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options that differ from their defaults; all, of an experiment that this version does not have."""
    fields = find(kind).fields if kind in EXPERIMENTS else {}
    defaults = loads(_question({name: o.default for name, o in fields.items() if not o.required}))
    return {name: value for name, value in options.items() if (name, value) not in defaults.items()}


def _outdated(atlas: Atlas, row: Mapping[str, Any]) -> str:
    """Why a stored answer is not current; empty where it is."""
    if row["data_digest"] != data_digest(atlas, row["kind"], row["network"], row["parameters"]):
        return "the data have changed"
    if row["kind"] in EXPERIMENTS and row["version"] != find(row["kind"]).version:
        return "the experiment has changed"
    return ""


def _free_id(atlas: Atlas, question: Mapping[str, Any]) -> int:
    """The id of the answer that is replaced, of whatever version, or else the next."""
    known = atlas.value(
        """
        select max(experiment_id) from experiments
        where kind = $1 and network_id is not distinct from $2 and options = $3::json and data_digest = $4
        """,
        list(question.values()),
    )
    return int(known or 1 + atlas.value("select coalesce(max(experiment_id), 0) from experiments"))


# --- tables ------------------------------------------------------------------------------------------------------

_EXPERIMENTS = pa.schema(
    [
        ("experiment_id", pa.uint32()),
        ("kind", pa.string()),
        ("version", pa.uint32()),
        ("network_id", pa.uint16()),
        ("options", pa.string()),
        ("parameters", pa.string()),
        ("notes", pa.list_(pa.string())),
        ("data_digest", pa.string()),
        ("made_at", pa.timestamp("us")),
        ("made_by", pa.string()),
    ]
)


def _columns(kind: str, number: int, dtypes: Mapping[str, Mapping[str, str]]) -> pa.Table:
    """What each column of each table is, in the order of the result."""
    declared = {name: {column.name: column for column in t.columns} for name, t in find(kind).tables.items()}
    rows: list[dict[str, Any]] = []
    for table, columns in dtypes.items():
        for name, dtype in columns.items():
            column = declared.get(table, {}).get(name, Column(name, list, ""))
            about = {"dtype": dtype, "unit": column.unit, "meaning": column.meaning}
            rows.append({"experiment_id": number, "table_name": table, "ordinal": len(rows), "name": name, **about})
    return pa.Table.from_pylist(rows)


def _rows(number: int, name: str, cells: list[str]) -> pa.Table:
    n = len(cells)
    return pa.table(
        {
            "experiment_id": np.full(n, number, np.uint32),
            "table_name": pa.array([name] * n, pa.string()),
            "row_number": np.arange(n, dtype=np.uint32),
            "cells": pa.array(cells, pa.string()),
        }
    )


def _tables(atlas: Atlas, experiment_id: int) -> dict[str, pd.DataFrame]:
    dtypes: dict[str, dict[str, str]] = {}
    for table, name, dtype in atlas.rows(
        "select table_name, name, dtype from experiment_columns where experiment_id = $1 order by ordinal",
        [experiment_id],
    ):
        dtypes.setdefault(table, {})[name] = dtype
    cells: dict[str, list[str]] = {table: [] for table in dtypes}
    for table, row in atlas.rows(
        "select table_name, cells from experiment_rows where experiment_id = $1 order by table_name, row_number",
        [experiment_id],
    ):
        cells[table].append(row)
    return {table: table_of_rows(cells[table], columns) for table, columns in dtypes.items()}


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

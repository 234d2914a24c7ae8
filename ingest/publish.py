"""From shards to tables: everything that a run read becomes visible in one transaction, or nothing does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq

from atlas.catalog import Catalog
from atlas.errors import UsageError, WeightsError
from atlas.network import Network, Site
from atlas.store import Atlas, quoted

from .plan import Plan
from .shards import activation_column, code_column, inputs_path, shard_path


def publish(atlas: Atlas, network: Network, plan: Plan, run: str, folder: Path, started_at: datetime) -> int:
    """Stream a run's shards from ``folder`` into an atlas that is open for writing; returns the run's id.

    Inputs are matched by content hash, examples by network, input and position, codes and activations by site and
    example: what is there already is not stored again.
    """
    with atlas.transaction():
        network_id = _add_network(atlas, network)
        _add_sites(atlas, network, network_id)
        for span in plan.document["spans"]:
            atlas.execute(
                "insert into spans select (select coalesce(max(span_id), 0) + 1 from spans), $1, $2 "
                "where not exists (from spans where network_id = $1 and name = $2)",
                [network_id, span],
            )
        run_id = 1 + atlas.value("select coalesce(max(run_id), 0) from runs")
        _stage_inputs(atlas, plan, folder)
        dataset_id = _add_dataset(atlas, plan)
        _add_inputs(atlas, plan, folder, dataset_id)
        _add_examples(atlas, plan, folder, network_id, run_id)
        for site in plan.sites:
            _add_values(atlas, plan, folder, network_id, site, "codes", code_column(site), _ADD_CODES)
        for site in plan.stored_activations:
            column = activation_column(site)
            _add_values(atlas, plan, folder, network_id, site, "activations", column, _ADD_ACTIVATIONS)
        _add_run(atlas, plan, run, run_id, network_id, dataset_id, started_at)
        for table in ("staged_inputs", "staged_contents", "staged_examples"):
            atlas.execute(f"drop table {table}")
        _refresh_sites(atlas, network_id, [site.name for site in plan.sites])
    return run_id


def check_network(atlas: Atlas, network: Network) -> None:
    """`WeightsError` if the atlas holds another network under this name."""
    info = network.info
    for record in atlas.catalog.networks:
        if record.name != info.name:
            continue
        if record.weights_digest != info.weights_digest:
            raise WeightsError(
                f"{atlas.path} already holds a network {info.name!r} with other weights ({record.weights}, digest "
                f"{record.weights_digest[:12]}…; these have {info.weights_digest[:12]}…): give these a name with "
                "--name"
            )
        if record.reading != json.loads(json.dumps(info.reading)):
            changed = ", ".join(
                f"{key}: {record.reading.get(key)} → {info.reading.get(key)}"
                for key in sorted({*record.reading, *info.reading})
                if record.reading.get(key) != json.loads(json.dumps(info.reading.get(key)))
            )
            raise WeightsError(
                f"{atlas.path} already holds {info.name!r}, read in another way ({changed}); its codes would not be "
                "comparable: give this one a name with --name"
            )


def check_dataset(atlas: Atlas, name: str, kind: str) -> None:
    """`UsageError` if the atlas holds a dataset of another kind under this name."""
    known = atlas.value("select kind from datasets where name = $1", [name])
    if known not in (None, kind):
        raise UsageError(
            f"{atlas.path} already holds a dataset {name!r} of {known}s, and these are {kind}s: give them a name of "
            "their own"
        )


def _add_network(atlas: Atlas, network: Network) -> int:
    info = network.info
    check_network(atlas, network)
    atlas.execute(
        "insert into networks select (select coalesce(max(network_id), 0) + 1 from networks), "
        "$1, $2, $3, $4, $5, $6, $7 where not exists (from networks where name = $1)",
        [info.name, info.architecture, info.kind, info.source, info.weights, info.weights_digest,
         json.dumps(info.reading, sort_keys=True)],
    )  # fmt: skip
    return int(atlas.value("select network_id from networks where name = $1", [info.name]))


def _add_sites(atlas: Atlas, network: Network, network_id: int) -> None:
    """All sites, those that were not read included: a span must know what lies in it."""
    if atlas.value("select count(*) from sites where network_id = $1", [network_id]):
        return
    first = 1 + atlas.value("select coalesce(max(site_id), 0) from sites")
    for site_id, site in enumerate(network.sites, start=first):
        layout = [
            {"module": run.module, "start": run.start, "count": run.count, "grid": run.grid} for run in site.layout
        ]
        atlas.execute(
            "insert into sites (site_id, network_id, name, ordinal, scope, n_units, n_gates, nonlinearity, exact, "
            "unit_shape, layout) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            [site_id, network_id, site.name, site.ordinal, site.scope, site.n_units, site.n_gates,
             site.nonlinearity, site.exact, list(site.unit_shape) or [site.n_units], json.dumps(layout)],
        )  # fmt: skip


def _stage_inputs(atlas: Atlas, plan: Plan, folder: Path) -> None:
    """``staged_inputs`` lines up row by row with the inputs' files. Texts and thumbnails stay in the files."""
    atlas.execute(
        """
        create temp table staged_inputs as
        select row_number() over () as place, ordinal, key, label, content_hash, reason from read_parquet($1)
        """,
        [_inputs_files(plan, folder)],
    )


def _add_dataset(atlas: Atlas, plan: Plan) -> int:
    data = plan.document["data"]
    check_dataset(atlas, data["name"], data["kind"])
    atlas.execute(
        "insert into datasets select (select coalesce(max(dataset_id), 0) + 1 from datasets), $1, $2, $3, $4, 0 "
        "where not exists (from datasets where name = $1)",
        [data["name"], data["kind"], data["source"], data["fingerprint"]],
    )
    # A dataset that has grown is the same dataset with more in it, known by what it was last.
    atlas.execute(
        "update datasets set source = $2, fingerprint = $3 where name = $1",
        [data["name"], data["source"], data["fingerprint"]],
    )
    return int(atlas.value("select dataset_id from datasets where name = $1", [data["name"]]))


def _add_inputs(atlas: Atlas, plan: Plan, folder: Path, dataset_id: int) -> None:
    atlas.execute(
        """
        create temp table staged_contents as
        select staged.place, new.input_id
        from staged_inputs as staged left join (
            select place,
                   (select coalesce(max(input_id), 0) from inputs) + row_number() over (order by place) as input_id
            from (
                from staged_inputs
                where reason is null and content_hash not in (select content_hash from inputs)
                qualify row_number() over (partition by content_hash order by place) = 1
            )
        ) as new using (place)
        order by place
        """
    )
    atlas.execute(
        """
        insert into inputs
        select contents.input_id, kind, content_hash, text, thumbnail, width, height
        from (select kind, content_hash, text, thumbnail, width, height from read_parquet($1))
        positional join staged_contents as contents
        where contents.input_id is not null
        """,
        [_inputs_files(plan, folder)],
    )
    atlas.execute(
        """
        insert into dataset_inputs
        select $1, (select coalesce(max(ordinal) + 1, 0) from dataset_inputs where dataset_id = $1)
                   + row_number() over (order by staged.ordinal) - 1, inputs.input_id, staged.key, staged.label
        from staged_inputs as staged join inputs using (content_hash)
        where staged.reason is null and not exists (
            from dataset_inputs as known
            where known.dataset_id = $1 and known.input_id = inputs.input_id and known.key = staged.key
        )
        """,
        [dataset_id],
    )
    atlas.execute(
        "update datasets set n_inputs = (select count(*) from dataset_inputs where dataset_id = $1) "
        "where dataset_id = $1",
        [dataset_id],
    )


def _add_examples(atlas: Atlas, plan: Plan, folder: Path, network_id: int, run_id: int) -> None:
    """Give every example of the run its id: the one it has from an earlier run, or the next.

    ``staged_examples`` lines up row by row with the shards' files, so that what is wide (contexts, codes,
    activations) streams past it and is never held or sorted. A text that occurs twice in the run has its examples
    twice in the files; ``first`` marks those that count.
    """
    files = _shard_files(plan, folder)
    atlas.execute(
        """
        create temp table staged_examples as
        with read as (
            select row_number() over () as place, ordinal, position, "row", "column" from read_parquet($1)
        ), known as (
            select read.place, inputs.input_id, staged_inputs.label, examples.example_id,
                   row_number() over (
                       partition by inputs.input_id, read.position, read."row", read."column" order by read.place
                   ) = 1 as first
            from read
            join staged_inputs using (ordinal)
            join inputs using (content_hash)
            left join examples
                on examples.network_id = $2 and examples.input_id = inputs.input_id
                and examples.position is not distinct from read.position
                and examples."row" is not distinct from read."row"
                and examples."column" is not distinct from read."column"
        )
        select place, input_id, label, first, example_id is null as new,
               coalesce(example_id, (select coalesce(max(example_id), 0) from examples)
                        + sum((first and example_id is null)::integer) over (order by place)) as example_id
        from known order by place
        """,
        [files, network_id],
    )
    atlas.execute(
        """
        insert into examples
        select staged.example_id, $2, $3, staged.input_id, position, "row", "column", token, context, context_offset,
               staged.label, prediction, probability, loss
        from (
            select position, "row", "column", token, context, context_offset, prediction, probability, loss
            from read_parquet($1)
        )
        positional join staged_examples as staged
        where staged.first and staged.new
        """,
        [files, network_id, run_id],
    )


_ADD_CODES = """
insert into codes (site_id, example_id, code, n_active)
select $2, example_id, cast(value as bit), bit_count(cast(value as bit)) from ({rows}) where wanted
"""

_ADD_ACTIVATIONS = """
insert into activations (site_id, example_id, part, activation)
select $2, example_id, unnest(range(len(value))), unnest(value) from ({rows}) where wanted
"""


def _add_values(
    atlas: Atlas, plan: Plan, folder: Path, network_id: int, site: Site, table: str, column: str, statement: str
) -> None:
    """Append what ``column`` of the shards holds to ``table``, for the examples that have nothing there yet."""
    site_id = _stage_missing(atlas, table, network_id, site)
    rows = f"""
        select missing.example_id, missing.wanted, value
        from (select {quoted(column)} as value from read_parquet($1))
        positional join (
            select example_id, wanted from staged_missing where place between $3 and $4 order by place
        ) as missing
    """
    for file, first, last in _shard_places(plan, folder):
        atlas.execute(statement.format(rows=rows), [file, site_id, first, last])
    atlas.execute("drop table staged_missing")


def _shard_places(plan: Plan, folder: Path) -> Iterator[tuple[str, int, int]]:
    """Every shard's file with the first and last place of its rows in the run, from 1.

    Codes and activations are published a shard at a time, because DuckDB gathers 2,048 rows before it hands them on:
    of whole convolutional tensors that would be gigabytes, and a shard holds few of them.
    """
    place = 1
    for file in _shard_files(plan, folder):
        rows = pq.read_metadata(file).num_rows
        yield file, place, place + rows - 1
        place += rows


def _stage_missing(atlas: Atlas, table: str, network_id: int, site: Site) -> int:
    """``staged_missing`` lines up with the shards' files and marks the rows that ``table`` lacks; the site's id."""
    site_id = int(
        atlas.value("select site_id from sites where network_id = $1 and name = $2", [network_id, site.name])
    )
    atlas.execute(
        f"""
        create temp table staged_missing as
        select place, example_id, first and example_id not in (
            select example_id from {quoted(table)} where site_id = $1
        ) as wanted
        from staged_examples order by place
        """,
        [site_id],
    )
    return site_id


def _inputs_files(plan: Plan, folder: Path) -> list[str]:
    return [str(inputs_path(folder, shard)) for shard in plan.shards]


def _shard_files(plan: Plan, folder: Path) -> list[str]:
    return [str(shard_path(folder, shard)) for shard in plan.shards]


def _add_run(
    atlas: Atlas, plan: Plan, run: str, run_id: int, network_id: int, dataset_id: int, started_at: datetime
) -> None:
    atlas.execute(
        "insert into runs values ($1, $2, $3, $4, $5, $6, (select count(*) from staged_examples), "
        "(select count(*) from staged_inputs where reason is not null), $7, $8)",
        [run_id, run, network_id, dataset_id, json.dumps(plan.document, sort_keys=True), plan.digest,
         started_at.replace(tzinfo=None), datetime.now(UTC).replace(tzinfo=None)],
    )  # fmt: skip
    atlas.execute(
        "insert into bad_inputs select $1, key, reason from staged_inputs where reason is not null order by ordinal",
        [run_id],
    )


def _refresh_sites(atlas: Atlas, network_id: int, names: list[str]) -> None:
    """Count and digest what the sites hold now; indexes and clusterings made of less will no longer match."""
    site_ids = {
        site_id
        for (site_id,) in atlas.rows(
            "select site_id from sites where network_id = $1 and name in (select unnest($2::varchar[]))",
            [network_id, names],
        )
    }
    for site in Catalog(atlas).sites:
        if site.site_id in site_ids:
            n_codes, codes_digest = atlas.codes_digest(site)
            n_activations, activations_digest = atlas.activations_digest(site)
            atlas.execute(
                "update sites set n_codes = $2, codes_digest = $3, n_activations = $4, activations_digest = $5 "
                "where site_id = $1",
                [site.site_id, n_codes, codes_digest, n_activations, activations_digest],
            )

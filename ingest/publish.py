"""From shards to tables: everything that a run read becomes visible in one transaction, or nothing does."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from atlas.catalog import Catalog
from atlas.errors import WeightsError
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
        _add_inputs(atlas, dataset_id)
        _add_examples(atlas, plan, folder, network_id, run_id)
        for site in plan.sites:
            _add_codes(atlas, plan, folder, network_id, site)
        for site in plan.stored_activations:
            _add_activations(atlas, plan, folder, network_id, site)
        _add_run(atlas, plan, run, run_id, network_id, dataset_id, started_at)
        for table in ("staged_inputs", "staged_examples", "staged_ids"):
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
                f"{record.weights_digest[:12]}…; these have {info.weights_digest[:12]}…): give these a name with --name"
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
    files = [str(inputs_path(folder, shard)) for shard in plan.shards]
    atlas.execute("create temp table staged_inputs as from read_parquet($1) order by ordinal", [files])


def _add_dataset(atlas: Atlas, plan: Plan) -> int:
    data = plan.document["data"]
    atlas.execute(
        "insert into datasets select (select coalesce(max(dataset_id), 0) + 1 from datasets), $1, $2, $3, $4, 0 "
        "where not exists (from datasets where name = $1)",
        [data["name"], data["kind"], data["source"], data["fingerprint"]],
    )
    return int(atlas.value("select dataset_id from datasets where name = $1", [data["name"]]))


def _add_inputs(atlas: Atlas, dataset_id: int) -> None:
    atlas.execute(
        """
        insert into inputs
        select (select coalesce(max(input_id), 0) from inputs) + row_number() over (order by ordinal),
               kind, content_hash, text, thumbnail, width, height
        from (
            from staged_inputs
            where reason is null and content_hash not in (select content_hash from inputs)
            qualify row_number() over (partition by content_hash order by ordinal) = 1
        )
        """
    )
    # A dataset that has grown is the same dataset with more in it.
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

    ``staged_ids`` lines up row by row with the shards' files, so that codes need no join. A text that occurs twice
    in the run has its examples twice in the files; ``first`` marks those that count.
    """
    files = [str(shard_path(folder, shard)) for shard in plan.shards]
    atlas.execute(
        """
        create temp table staged_examples as
        select example.*, inputs.input_id, staged_inputs.label
        from (
            select row_number() over () as place, ordinal, position, "row", "column", token, context, context_offset,
                   prediction, probability, loss
            from read_parquet($1)
        ) as example
        join staged_inputs using (ordinal)
        join inputs using (content_hash)
        order by place
        """,
        [files],
    )
    atlas.execute(
        """
        create temp table staged_ids as
        with known as (
            select staged.place, staged.input_id, staged.position, staged."row", staged."column", examples.example_id,
                   row_number() over (
                       partition by staged.input_id, staged.position, staged."row", staged."column"
                       order by staged.place
                   ) = 1 as first
            from staged_examples as staged
            left join examples
                on examples.network_id = $1 and examples.input_id = staged.input_id
                and examples.position is not distinct from staged.position
                and examples."row" is not distinct from staged."row"
                and examples."column" is not distinct from staged."column"
        )
        select place, first, example_id is null as new,
               coalesce(example_id, (select coalesce(max(example_id), 0) from examples)
                        + sum((first and example_id is null)::integer) over (order by place)) as example_id
        from known order by place
        """,
        [network_id],
    )
    atlas.execute(
        """
        insert into examples
        select ids.example_id, $1, $2, staged.input_id, staged.position, staged."row", staged."column", staged.token,
               staged.context, staged.context_offset, staged.label, staged.prediction, staged.probability, staged.loss
        from staged_examples as staged join staged_ids as ids using (place)
        where ids.first and ids.new order by ids.example_id
        """,
        [network_id, run_id],
    )


def _add_codes(atlas: Atlas, plan: Plan, folder: Path, network_id: int, site: Site) -> None:
    atlas.execute(
        f"""
        insert into codes (site_id, example_id, code, n_active)
        select site_id, example_id, code, bit_count(code)
        from (
            select ids.example_id, ids.first, cast(shards.{quoted(code_column(site))} as bit) as code,
                   (select site_id from sites where network_id = $2 and name = $3) as site_id
            from staged_ids as ids
            positional join (select {quoted(code_column(site))} from read_parquet($1)) as shards
        ) as staged
        where first and not exists (
            from codes as known where known.site_id = staged.site_id and known.example_id = staged.example_id
        )
        """,
        [[str(shard_path(folder, shard)) for shard in plan.shards], network_id, site.name],
    )


def _add_activations(atlas: Atlas, plan: Plan, folder: Path, network_id: int, site: Site) -> None:
    atlas.execute(
        f"""
        insert into activations (site_id, example_id, activation)
        select site_id, example_id, activation
        from (
            select ids.example_id, ids.first, shards.{quoted(activation_column(site))} as activation,
                   (select site_id from sites where network_id = $2 and name = $3) as site_id
            from staged_ids as ids
            positional join (select {quoted(activation_column(site))} from read_parquet($1)) as shards
        ) as staged
        where first and not exists (
            from activations as known where known.site_id = staged.site_id and known.example_id = staged.example_id
        )
        """,
        [[str(shard_path(folder, shard)) for shard in plan.shards], network_id, site.name],
    )


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

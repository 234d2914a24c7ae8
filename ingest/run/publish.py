"""From shards to tables: everything that a run read becomes visible in one transaction, or nothing does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, UInt32

from atlas.errors import UsageError, WeightsError
from atlas.network import Network, Site
from atlas.progress import Progress
from atlas.store.atlas import FAST_WIDTH, Atlas
from atlas.store.catalog import Catalog, SiteRecord
from atlas.store.digests import (
    PIECE_IDS,
    RowsDigest,
    SiteTable,
    read_pieces,
    seal,
    store_pieces,
    stored_pieces,
    whole,
)
from atlas.store.statements import quoted

from .batches import ACTIVATIONS, CODES, Wanted, activation_batches, code_batches
from .labels import fill_labels, stage_labels
from .plan import Plan
from .shards import inputs_path, read_on, shard_path

MEGABYTE = 1_000_000


def publish(
    atlas: Atlas,
    network: Network,
    plan: Plan,
    run: str,
    folder: Path,
    started_at: datetime,
    *,
    progress: Progress | None = None,
) -> list[str]:
    """Stream a run's shards from ``folder`` into an atlas that is open for writing; returns what is to be said of
    inputs that are there already, or twice.

    ``progress`` is told (megabytes of codes and activations done, of all).

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
        atlas.expect_inputs(plan.n_inputs)
        _stage_inputs(atlas, plan, folder)
        dataset_id = _add_dataset(atlas, plan)
        _add_inputs(atlas, plan, folder, dataset_id, run_id)
        stage_labels(atlas, network_id)
        _add_examples(atlas, network, plan, folder, network_id, run_id)
        _add_values(atlas, plan, folder, network_id, progress)
        _add_run(atlas, plan, run, run_id, network_id, dataset_id, started_at)
        _add_shards(atlas, plan, folder, run_id)
        notes = fill_labels(atlas, _shard_files(plan, folder), network_id, dataset_id, run_id)
        for table in ("staged_inputs", "staged_contents", "staged_labels", "staged_examples"):
            atlas.execute(f"drop table {table}")
        seal(atlas, "networks", "sites", "spans", "datasets", run_id=run_id)
    return notes


def is_published(atlas: Atlas, plan: Plan) -> bool:
    """Whether the atlas holds a run of this plan."""
    return bool(atlas.value("select exists(from runs where plan_digest = $1)", [plan.digest]))


def check_network(atlas: Atlas, network: Network) -> None:
    """`WeightsError` if the atlas holds another network under this name."""
    info = network.info
    for record in atlas.catalog.networks:
        if record.name != info.name:
            continue
        if record.weights_digest != info.weights_digest:
            raise WeightsError(
                f"{atlas.address} already holds a network {info.name!r} with other weights ({record.weights}, digest "
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
                f"{atlas.address} already holds {info.name!r}, read in another way ({changed}); its codes would not "
                "be comparable: give this one a name with --name"
            )


def check_dataset(atlas: Atlas, name: str, kind: str) -> None:
    """`UsageError` if the atlas holds a dataset of another kind under this name."""
    known = atlas.value("select kind from datasets where name = $1", [name])
    if known not in (None, kind):
        raise UsageError(
            f"{atlas.address} already holds a dataset {name!r} of {known}s, and these are {kind}s: give them a name "
            "of their own"
        )


def _add_network(atlas: Atlas, network: Network) -> int:
    info = network.info
    check_network(atlas, network)
    atlas.execute(
        "insert into networks select (select coalesce(max(network_id), 0) + 1 from networks), "
        "$1, $2, $3, $4, $5, $6, $7 where not exists (from networks where name = $1)",
        [
            info.name,
            info.architecture,
            info.kind,
            info.source,
            info.weights,
            info.weights_digest,
            json.dumps(info.reading, sort_keys=True),
        ],
    )
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
            "broken_by, bypassed_by, unit_shape, layout) "
            "values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
            [
                site_id,
                network_id,
                site.name,
                site.ordinal,
                site.scope,
                site.n_units,
                site.n_gates,
                site.nonlinearity,
                site.exact,
                site.broken_by,
                site.bypassed_by,
                list(site.unit_shape) or [site.n_units],
                json.dumps(layout),
            ],
        )


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


def _add_inputs(atlas: Atlas, plan: Plan, folder: Path, dataset_id: int, run_id: int) -> None:
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
        select contents.input_id, kind, content_hash, text, thumbnail, width, height, vector, $2
        from (select kind, content_hash, text, thumbnail, width, height, vector from read_parquet($1))
        positional join staged_contents as contents
        where contents.input_id is not null
        """,
        [_inputs_files(plan, folder), run_id],
    )
    atlas.execute(
        """
        insert into dataset_inputs
        select $1, (select coalesce(max(ordinal) + 1, 0) from dataset_inputs where dataset_id = $1)
                   + row_number() over (order by staged.ordinal) - 1, inputs.input_id, staged.key, staged.label, $2
        from staged_inputs as staged join inputs using (content_hash)
        where staged.reason is null and not exists (
            from dataset_inputs as known
            where known.dataset_id = $1 and known.input_id = inputs.input_id and known.key = staged.key
        )
        """,
        [dataset_id, run_id],
    )
    atlas.execute(
        "update datasets set n_inputs = (select count(*) from dataset_inputs where dataset_id = $1) "
        "where dataset_id = $1",
        [dataset_id],
    )


def _add_examples(atlas: Atlas, network: Network, plan: Plan, folder: Path, network_id: int, run_id: int) -> None:
    """Give every example of the run its id: the one it has from an earlier run, or the next.

    ``staged_examples`` lines up row by row with the shards' files, so that what is wide (contexts, codes,
    activations) streams past it and is never held or sorted. A text that occurs twice in the run has its examples
    twice in the files; ``first`` marks those that count, read with the label that they have where there are such.
    """
    files = _shard_files(plan, folder)
    atlas.execute(
        """
        create temp table staged_examples as
        with read as (
            select row_number() over () as place, ordinal, position, "row", "column" from read_parquet($1)
        ), known as (
            select read.place, inputs.input_id, given.label, examples.example_id,
                   given.label is not distinct from staged_inputs.label as read_so,
                   row_number() over (
                       partition by inputs.input_id, read.position, read."row", read."column"
                       order by read_so desc, read.place
                   ) = 1 as first
            from read
            join staged_inputs using (ordinal)
            join inputs using (content_hash)
            join staged_labels as given using (input_id)
            left join examples
                on examples.network_id = $2 and examples.input_id = inputs.input_id
                and examples.position is not distinct from read.position
                and examples."row" is not distinct from read."row"
                and examples."column" is not distinct from read."column"
        )
        select place, input_id, label, read_so, first, example_id is null as new,
               coalesce(example_id, (select coalesce(max(example_id), 0) from examples)
                        + sum((first and example_id is null)::integer) over (order by place))::uinteger as example_id
        from known order by place
        """,
        [files, network_id],
    )
    atlas.execute(
        """
        insert into examples
        select staged.example_id, $2, $3, staged.input_id, position, "row", "column", token, context, context_offset,
               staged.label, prediction, probability, case when staged.read_so or $4 then loss end
        from (
            select position, "row", "column", token, context, context_offset, prediction, probability, loss
            from read_parquet($1)
        )
        positional join staged_examples as staged
        where staged.first and staged.new
        """,
        # That of a class was measured against the label with which it was read.
        [files, network_id, run_id, network.info.kind == "text"],
    )


def _add_values(atlas: Atlas, plan: Plan, folder: Path, network_id: int, progress: Progress | None) -> None:
    """Append the codes and activations of the examples that have none there yet, and count and digest them."""
    numbers = sum(site.n_units for site in plan.stored_activations)
    whole = plan.n_examples * (sum(site.n_bytes for site in plan.sites) + 4 * numbers)
    told = _Told(whole, progress)
    files = [Path(file) for file in _shard_files(plan, folder)]
    staged = atlas.columns("select example_id, first, first and not new as known from staged_examples order by place")
    ids, known = staged["example_id"], bool(staged["known"].any())
    # Narrow ones first: how codes are compressed stays as it is for the wide ones, of which the rest, that fills no
    # row group, is compressed when all is committed.
    sites = sorted(_site_ids(atlas, network_id, plan.sites), key=lambda found: found[0].n_bytes >= FAST_WIDTH)
    codes = [_wanted(atlas, "codes", *found, ids, staged["first"], known) for found in sites]
    for _, group in groupby(codes, key=lambda wanted: wanted.site.n_bytes >= FAST_WIDTH):
        alike = list(group)
        atlas.expect_codes_of(max(wanted.site.n_bytes for wanted in alike))
        atlas.insert_stream("codes", CODES, told(code_batches(files, ids, alike)))
    records = {record.site_id: record for record in Catalog(atlas).sites}
    _refresh_sites(atlas, "codes", codes, ids, records)
    sites = _site_ids(atlas, network_id, plan.stored_activations)
    activations = [_wanted(atlas, "activations", *found, ids, staged["first"], known) for found in sites]
    atlas.insert_stream("activations", ACTIVATIONS, told(activation_batches(files, ids, activations)))
    _refresh_sites(atlas, "activations", activations, ids, records)


@dataclass
class _Told:
    """Tells of batches how many of all bytes are done, once they are taken."""

    whole: int
    progress: Progress | None
    done: int = 0

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield batch
            self.done += batch.nbytes
            if self.progress is not None:
                self.progress(min(self.done, self.whole) // MEGABYTE, self.whole // MEGABYTE)


def _site_ids(atlas: Atlas, network_id: int, sites: Sequence[Site]) -> list[tuple[Site, int]]:
    known = dict(atlas.rows("select name, site_id from sites where network_id = $1", [network_id]))
    return [(site, known[site.name]) for site in sites]


def _wanted(
    atlas: Atlas,
    table: str,
    site: Site,
    site_id: int,
    ids: UInt32[np.ndarray, " run"],
    first: Bool[np.ndarray, " run"],
    known: bool,
) -> Wanted:
    """The rows of the run that ``table`` lacks for a site, which are digested on the way if their ids ascend.

    ``known``: whether any of its examples was in the atlas before.
    """
    rows = first
    if known:
        lacking = f"""
            select first and example_id not in (select example_id from {quoted(table)} where site_id = $1) as lacking
            from staged_examples order by place
        """
        rows = atlas.columns(lacking, [site_id])["lacking"]
    added = ids[rows]
    in_order = bool((added[1:] > added[:-1]).all())
    return Wanted(site, site_id, rows, RowsDigest(added) if in_order else None)


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
        [
            run_id,
            run,
            network_id,
            dataset_id,
            json.dumps(plan.document, sort_keys=True),
            plan.digest,
            started_at.replace(tzinfo=None),
            datetime.now(UTC).replace(tzinfo=None),
        ],
    )
    atlas.execute(
        "insert into bad_inputs select $1, key, reason from staged_inputs where reason is not null order by ordinal",
        [run_id],
    )


def _add_shards(atlas: Atlas, plan: Plan, folder: Path, run_id: int) -> None:
    """What read each shard, and which examples it brought: their ids ascend from shard to shard."""
    counts = [pq.read_metadata(shard_path(folder, shard)).num_rows for shard in plan.shards]
    staged = atlas.columns("select example_id, first and new as brought from staged_examples order by place")
    brought = [
        ids[new]
        for ids, new in zip(*(np.split(staged[name], np.cumsum(counts)[:-1]) for name in staged), strict=True)
    ]
    columns = {
        "run_id": [run_id] * len(counts),
        "shard": [shard.number for shard in plan.shards],
        "device": pa.array([read_on(folder, shard) for shard in plan.shards], pa.string()),
        "n_examples": counts,
        "first_example_id": [int(ids[0]) if len(ids) else None for ids in brought],
        "last_example_id": [int(ids[-1]) if len(ids) else None for ids in brought],
    }
    atlas.insert("shards", pa.table(columns))


def _refresh_sites(
    atlas: Atlas,
    table: SiteTable,
    added: Sequence[Wanted],
    ids: UInt32[np.ndarray, " run"],
    records: Mapping[int, SiteRecord],
) -> None:
    """Count and digest what the sites hold now; indexes and clusterings made of less will no longer match.

    Pieces without a new row are as they were, and those of new rows alone were digested on the way: only where the
    two meet is read again. Where nothing is written down of what a site held, all of it is. ``records`` are the sites
    by id, as they were before.
    """
    for wanted in added:
        site, brought = records[wanted.site_id], np.unique(ids[wanted.rows] // PIECE_IDS).tolist()
        if not brought:
            continue
        known = stored_pieces(atlas, table, wanted.site_id)
        if whole(known) != _recorded(site, table):
            pieces = read_pieces(atlas, table, site)
        else:
            fresh = {} if wanted.digest is None else wanted.digest.pieces
            again = [number for number in brought if number in known or number not in fresh]
            pieces = fresh | read_pieces(atlas, table, site, again)
        store_pieces(atlas, table, wanted.site_id, pieces)
        atlas.execute(
            f"update sites set {quoted(f'n_{table}')} = $2, {quoted(f'{table}_digest')} = $3 where site_id = $1",
            [wanted.site_id, *whole(known | pieces)],
        )


def _recorded(site: SiteRecord, table: SiteTable) -> tuple[int, str | None]:
    """Rows of a site and their digest, as they were written down."""
    return (site.n_codes, site.codes_digest) if table == "codes" else (site.n_activations, site.activations_digest)

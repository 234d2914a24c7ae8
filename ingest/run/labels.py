"""Which label an input has where it is given several, or one later: docs/FORMAT.md, Labels.

Every dataset keeps its own, in ``dataset_inputs``. What queries read, ``examples.label``, is the first that an input
of the network was given; one that comes later fills in where none was. What is not taken is told.
"""

from __future__ import annotations

from contextlib import ExitStack

from atlas.store.atlas import Atlas
from atlas.store.digests import changing

from ..derived.labels import relabel_clusters


def stage_labels(atlas: Atlas, network_id: int) -> None:
    """``staged_labels``: of every input of the run, the label that this network's examples have of it."""
    atlas.execute(
        """
        create temp table staged_labels as
        with known as (
            select input_id, arg_min(label, example_id) as label from examples
            where network_id = $1 and label is not null group by input_id
        )
        select input_id, coalesce(any_value(known.label), arg_min(staged.label, staged.place)) as label
        from staged_inputs as staged join inputs using (content_hash) left join known using (input_id)
        group by input_id
        """,
        [network_id],
    )


def fill_labels(atlas: Atlas, files: list[str], network_id: int, dataset_id: int, run_id: int) -> list[str]:
    """Give labels of this run to what had none before; returns what is to be said of all labels.

    ``files`` of the run's examples line up with ``staged_examples``. A loss that is measured against a label comes
    with it.
    """
    atlas.execute(
        """
        create temp table staged_fillings as
        with read as (
            select example_id, loss from (select loss from read_parquet($1)) positional join staged_examples as staged
            where staged.first and not staged.new
        )
        select examples.example_id, examples.run_id, staged_labels.label, coalesce(examples.loss, read.loss) as loss
        from examples join staged_labels using (input_id) left join read using (example_id)
        where examples.network_id = $2 and examples.label is null and staged_labels.label is not null
        """,
        [files, network_id],
    )
    atlas.execute(
        """
        create temp table staged_unlabelled as
        select known.run_id, known.ordinal, staged.label
        from dataset_inputs as known join inputs using (input_id)
        join staged_inputs as staged on staged.content_hash = inputs.content_hash and staged.key = known.key
        where known.dataset_id = $1 and known.label is null and staged.label is not null
        """,
        [dataset_id],
    )
    with ExitStack() as digests:
        for (run,) in atlas.rows("select distinct run_id from staged_fillings where run_id <> $1", [run_id]):
            digests.enter_context(changing(atlas, "examples", "label", "loss", run_id=run))
        for (run,) in atlas.rows("select distinct run_id from staged_unlabelled where run_id <> $1", [run_id]):
            digests.enter_context(changing(atlas, "dataset_inputs", "label", run_id=run))
        atlas.execute(
            "update examples set label = filled.label, loss = filled.loss from staged_fillings as filled "
            "where examples.example_id = filled.example_id"
        )
        atlas.execute(
            "update dataset_inputs set label = filled.label from staged_unlabelled as filled "
            "where dataset_inputs.dataset_id = $1 and dataset_inputs.ordinal = filled.ordinal",
            [dataset_id],
        )
    relabel_clusters(atlas, "select example_id from staged_fillings")
    notes = [*_said(atlas, network_id, dataset_id)]
    atlas.execute("drop table staged_fillings")
    atlas.execute("drop table staged_unlabelled")
    return notes


def _said(atlas: Atlas, network_id: int, dataset_id: int) -> list[str]:
    [(inputs, contents)] = atlas.rows(
        "select count(*), count(distinct content_hash) from staged_inputs where reason is null"
    )
    notes = []
    if inputs > contents:
        notes.append(f"{inputs - contents} of {inputs} inputs have the content of another one: each is stored once")
    filled = atlas.value("select count(distinct input_id) from staged_fillings join examples using (example_id)")
    if filled:
        notes.append(f"{_inputs(filled)} without a label took the one that is given here")
    others = atlas.rows(
        """
        select staged.key, staged.label, read.label, exists(
            from dataset_inputs as kept where kept.dataset_id = $1 and kept.input_id = inputs.input_id
            and kept.key = staged.key and kept.label = staged.label
        ) as kept
        from staged_inputs as staged join inputs using (content_hash) join staged_labels as read using (input_id)
        where staged.reason is null and staged.label <> read.label
        order by staged.place
        """,
        [dataset_id],
    )
    for kept, where in ((True, "table dataset_inputs has both"), (False, "with --data-name it is stored as well")):
        some = [other for other in others if other[3] is kept]
        if some:
            key, label, read, _ = some[0]
            notes.append(
                f"{_inputs(len(some), ' has', ' have')} another label here than the first that was given: "
                f"{key} has {label!r} here, and {read!r} is what queries read; {where}"
            )
    return notes


def _inputs(n: int, one: str = "", several: str = "") -> str:
    return f"1 input{one}" if n == 1 else f"{n} inputs{several}"

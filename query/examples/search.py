"""Stored examples by the words that they bear: a token, a word of a text, a label, a key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from atlas import Atlas
from atlas.checks import whole
from atlas.errors import UsageError
from atlas.store.catalog import NetworkRecord

LIMIT = 20
"""Examples of each way of matching that are given unless asked otherwise."""

AROUND = 60
"""Characters either side of what was found, where no example's context holds it and the text itself is shown."""

LONGEST = 1000
"""Characters that are looked for; what is longer is a text, to be read by the network."""


@dataclass(frozen=True)
class _Way:
    """A way of matching, in SQL: what matches the words $2 among what network $1 read, and the first $3 of that."""

    which: str
    shown: str


_BEARERS = "select example_id from examples where network_id = $1 and lower({column}) = lower($2)"
_SHOWN = """
select example_id, {column} as found, context, null::uinteger as found_at, label
from examples where network_id = $1 and lower({column}) = lower($2) order by example_id limit $3
"""
_LABEL, _PREDICTION = (
    _Way(_BEARERS.format(column=column), _SHOWN.format(column=column)) for column in ("label", "prediction")
)
_KEYS = """
select input_id, min(key) as found from dataset_inputs
where contains(lower(key), lower($2)) and input_id in (select input_id from examples where network_id = $1)
group by input_id
"""
_KEY = _Way(
    _KEYS,
    f"""
    with holding as ({_KEYS} order by input_id limit $3)
    select
        min(example_id)::uinteger as example_id, found, arg_min(context, example_id) as context,
        null::uinteger as found_at, arg_min(label, example_id) as label
    from holding join examples using (input_id)
    where network_id = $1
    group by input_id, found order by 1
    """,
)
_TOKEN = _Way(
    "select example_id from examples where network_id = $1 and token in (select unnest($2::varchar[]))",
    """
    select example_id, token as found, context, context_offset as found_at, label
    from examples where network_id = $1 and token in (select unnest($2::varchar[]))
    order by example_id limit $3
    """,
)


def _in_texts(holding: str) -> _Way:
    return _Way(
        holding,
        f"""
        with holding as (
            select input_id, text from ({holding}) join inputs using (input_id) order by input_id limit $3
        ),
        candidates as (
            select input_id, example_id, label, context, context_offset, strpos(context, $2) - 1 as place
            from examples where network_id = $1 and input_id in (select input_id from holding)
        ),
        nearest as (
            select
                input_id, min(example_id) as first, any_value(label) as label,
                arg_min(example_id, (abs(place - context_offset), example_id)) filter (place >= 0) as example_id,
                arg_min(context, (abs(place - context_offset), example_id)) filter (place >= 0) as context,
                arg_min(place, (abs(place - context_offset), example_id)) filter (place >= 0) as place
            from candidates group by input_id
        )
        select
            coalesce(example_id, first)::uinteger as example_id, $2 as found,
            coalesce(context, substr(text, greatest(1, strpos(text, $2) - {AROUND}), {2 * AROUND} + length($2)))
                as context,
            coalesce(place, least(strpos(text, $2) - 1, {AROUND}))::uinteger as found_at, label
        from holding join nearest using (input_id) order by input_id
        """,
    )


_TEXTS = _in_texts(
    "select input_id from inputs "
    "where contains(text, $2) and input_id in (select input_id from examples where network_id = $1)"
)
_CONTEXTS = _in_texts("select distinct input_id from examples where network_id = $1 and contains(context, $2)")
"""Where an atlas was handed on without its texts: what stands around the tokens that are stored."""


def find(
    atlas: Atlas, words: str, *, network: str | None = None, exact: bool = False, limit: int = LIMIT
) -> pd.DataFrame:
    """The stored examples that bear these words: as their token, in their text, as label, prediction or key.

    A token matches with a space before it or without: ``self`` finds the tokens ``self`` and `` self``, and
    `` self`` the latter alone. Letters of tokens and texts are taken as they are typed; labels, predictions and keys
    match in either case. Tokens and texts are compared by one scan of their columns, without an index.

    Args:
        atlas: an open atlas.
        words: what is looked for, of 1 to 1,000 characters.
        network: name of the network that read the examples, where the atlas has several.
        exact: only the very token, space and all, instead of all that match.
        limit: examples of each way of matching, in order of id; of texts, one each: the nearest to what was found.

    Returns:
        A row an example and way of matching: match (token, text, label, prediction or key, in that order),
        example_id, found (the characters that match, as they stand), context (what stands around them) and found_at
        (where in it they begin, from 0), which are null where there is no text, label.
        ``frame.attrs``: network, counts (how many match in each way: examples, of texts the texts), tokens (of each
        token that matches, space and all, how many examples bear it).

    Raises:
        UsageError: for no words or too many, for a limit below 1, and for exact where examples have no tokens.
        UnknownName: for a network that is not there.
    """
    if not 0 < len(words) <= LONGEST:
        raise UsageError(f"{len(words):,} characters are looked for; give 1 to {LONGEST:,}")
    limit, record = whole("limit", limit), atlas.catalog.network(network)
    if exact and record.kind != "text":
        raise UsageError(f"exact looks for a token, and network {record.name} reads {record.kind}s, which have none")
    ways = _ways(atlas, record)
    tokens = _tokens(atlas, record, words, exact) if "token" in ways else {}
    tables: list[pd.DataFrame] = []
    counts: dict[str, int] = {}
    for way in ("token",) if exact else ways:
        asked: list[Any] = [record.network_id, list(tokens) if way == "token" else words]
        counts[way] = int(atlas.value(f"select count(*) from ({ways[way].which})", asked) or 0)
        if counts[way]:
            rows = atlas.frame(ways[way].shown, [*asked, limit])
            tables.append(rows.assign(match=way))
    names = ["match", "example_id", "found", "context", "found_at", "label"]
    found = pd.concat(tables, ignore_index=True)[names] if tables else pd.DataFrame(columns=names)
    found.attrs.update(network=record.name, counts=counts, tokens=tokens)
    return found


def _tokens(atlas: Atlas, network: NetworkRecord, words: str, exact: bool) -> dict[str, int]:
    """The tokens that match, commonest first, with their examples."""
    wanted = [words] if exact else [words, f" {words}"]
    return dict(
        atlas.rows(
            """
            select token, count(*) from examples
            where network_id = $1 and token in (select unnest($2::varchar[]))
            group by token order by count(*) desc, token
            """,
            [network.network_id, wanted],
        )
    )


def _ways(atlas: Atlas, network: NetworkRecord) -> dict[str, _Way]:
    if network.kind != "text":
        return {"label": _LABEL, "prediction": _PREDICTION, "key": _KEY}
    kept = atlas.value(
        """
        select bool_and(text is not null) from inputs
        where kind = 'text' and input_id in (select input_id from examples where network_id = $1)
        """,
        [network.network_id],
    )
    return {"token": _TOKEN, "text": _TEXTS if kept else _CONTEXTS, "label": _LABEL, "key": _KEY}

"""An answer in the form that the client accepts: JSON, an Arrow stream, Parquet, or exactly as Python has it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from atlas import SplineCodes, wire
from atlas.errors import AnswerTooLarge, UsageError
from query import Subject
from query.remote.arguments import sent_value

from ..plain_text import escaped_json
from ..row_files import arrow_table, json_pieces, plain_value

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"

FORMS = (JSON, ARROW, PARQUET, wire.FRAME, wire.ANSWER)
TABLES = frozenset({ARROW, PARQUET, wire.FRAME})
"""Forms of a table alone."""

STREAMED = 1000
"""Rows from which on an answer is sent while it is written."""


class Encoded(NamedTuple):
    """An answer on its way: all of it, or pieces that are written as they are sent."""

    media_type: str
    content: bytes | Iterator[bytes]


def accepted(header: str) -> list[str]:
    """The forms that a client accepts, those that it likes best first. Raises `UsageError` for none of ours."""
    weighed = []
    for place, part in enumerate((header or "*/*").split(",")[:20]):
        media, *parameters = [word.strip().lower() for word in part.split(";")]
        weight = next((word[2:] for word in parameters if word.startswith("q=")), "1")
        try:
            weighed.append((-float(weight), place, media))
        except ValueError:
            raise UsageError(f"Accept is {header[:100]!r}; a weight is a number, as in q=0.5") from None
    forms = []
    for negative, _, media in sorted(weighed):
        if negative < 0:
            forms += [JSON] if media in ("*/*", "application/*") else [media] if media in FORMS else []
    if not forms:
        raise UsageError(f"Accept is {header[:100]!r}; an answer can be had as {', '.join(FORMS)}")
    return forms


def encode(answer: Any, forms: list[str], megabytes: int) -> Encoded:
    """An answer in the first form that it can have.

    Raises `UsageError` where it can have none, `AnswerTooLarge` where it would take more than so many megabytes.
    """
    is_table = isinstance(answer, pd.DataFrame)
    form = next((form for form in forms if is_table or form not in TABLES), None)
    if form is None:
        raise UsageError(f"this answer is no one table; accept {JSON}")
    if is_table and len(answer) >= STREAMED:
        _check_size(int(answer.memory_usage(deep=True).sum()), megabytes)
        return Encoded(form, _table(answer, form))
    if is_table:
        content = b"".join(_table(answer, form))
        _check_size(len(content), megabytes)
        return Encoded(form, content)
    content = wire.answer_bytes(answer) if form == wire.ANSWER else _plain_json(answer)
    _check_size(len(content), megabytes)
    return Encoded(form, content)


def _check_size(n_bytes: int, megabytes: int) -> None:
    if n_bytes > megabytes * 1_000_000:
        raise AnswerTooLarge(
            f"the answer takes {n_bytes / 1e6:,.1f} MB, and this server sends at most {megabytes}; ask for fewer "
            "rows or columns"
        )


def _table(frame: pd.DataFrame, form: str) -> Iterator[bytes]:
    match form:
        case wire.FRAME:
            yield from wire.frame_pieces(frame)
        case wire.ANSWER:
            yield wire.answer_bytes(frame)
        case _ if form == ARROW:
            yield from _arrow(frame)
        case _ if form == PARQUET:
            file = io.BytesIO()
            pq.write_table(_with_attrs(frame), file)
            yield file.getvalue()
        case _:
            yield f'{{"attrs": {_json(frame.attrs)}, "rows": '.encode()
            for piece in json_pieces(frame, indent=None):
                yield piece.encode()
            yield b"}\n"


def _arrow(frame: pd.DataFrame) -> Iterator[bytes]:
    table, sink = _with_attrs(frame), io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        for batch in table.to_batches(wire.BATCH_ROWS):
            writer.write_batch(batch)
            yield sink.getvalue()
            sink.seek(0)
            sink.truncate()
    yield sink.getvalue()


def _with_attrs(frame: pd.DataFrame) -> pa.Table:
    """As pandas itself keeps attributes in a file: what it reads has them."""
    return arrow_table(frame).replace_schema_metadata({"PANDAS_ATTRS": _json(frame.attrs)})


# --- JSON for people -------------------------------------------------------------------------------------------


def _plain_json(answer: Any) -> bytes:
    return (_json(answer) + "\n").encode()


def _json(value: Any) -> str:
    return escaped_json(json.dumps(plain(value), ensure_ascii=False, allow_nan=False))


def plain(value: Any) -> Any:
    """An answer in what JSON has: a table as its rows and attributes, a record as its fields."""
    if isinstance(value, pd.DataFrame):
        return {"attrs": plain(value.attrs), "rows": json.loads("".join(json_pieces(value)))}
    if isinstance(value, Subject):
        beside = ("tokens", "token", "prediction", "probability")
        return sent_value("subject", value) | {name: plain(getattr(value, name)) for name in beside}
    if isinstance(value, SplineCodes):
        return sent_value("codes", value)
    if hasattr(value, "_asdict"):
        return {name: plain(one) for name, one in value._asdict().items()}
    if is_dataclass(value) and not isinstance(value, type):
        held = {field.name: getattr(value, field.name) for field in fields(value)}
        return {name: plain(one) for name, one in held.items() if not callable(one)}
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, np.ndarray):
        return [plain(one) for one in value.tolist()]
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return plain_value(value)

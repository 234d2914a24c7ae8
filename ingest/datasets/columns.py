"""Which columns of a table are its inputs. ``columns`` maps a name to what the column holds, in the words of `base`
(``text``, ``image``, …) or by its type; ``where`` is what the errors call the table."""

from __future__ import annotations

from collections.abc import Mapping

from atlas.errors import BadInput, EmptyDataset

from .base import IMAGE, NUMBER, NUMBERS, TEXT, Request, advice_for, missing_column


def choose_text(request: Request, columns: Mapping[str, str], where: str) -> tuple[str, ...]:
    """The column of the texts: ``request.text_column``."""
    column = request.text_column
    images = _holding(IMAGE, columns)
    if column not in columns and images:
        raise EmptyDataset(
            f"{where} has no column {column!r} but images in column {images[0]!r}: {advice_for('image')}, or name a "
            "column of texts with --text-column"
        )
    if column not in columns:
        raise missing_column(where, column, columns, "--text-column")
    if columns[column] != TEXT:
        raise BadInput(
            f"{where}: column {column!r} holds {columns[column]}; expected texts. Choose one of {', '.join(columns)} "
            "with --text-column"
        )
    return (column,)


def choose_image(request: Request, columns: Mapping[str, str], where: str) -> tuple[str, ...]:
    """The only column of images, or the one called ``image``."""
    images = _holding(IMAGE, columns)
    if "image" in images:
        return ("image",)
    if not images and request.text_column in columns:
        raise EmptyDataset(
            f"{where} has no column of images but texts in {request.text_column!r}: {advice_for('text')}"
        )
    if len(images) != 1:
        raise BadInput(
            f"{where} has {len(images)} columns of images ({', '.join(images) or 'none'}); expected one, or one "
            f"called 'image'. Its columns: {', '.join(columns) or 'none'}"
        )
    return (images[0],)


def choose_vector(request: Request, columns: Mapping[str, str], where: str) -> tuple[str, ...]:
    """One column of lists of numbers, or the columns of one number a row that together are the vector.

    Those that ``request.vector_columns`` names; else the only column of lists, or the one called ``vector``; else all
    columns but that of the labels.
    """
    lists = _holding(NUMBERS, columns)
    chosen = request.vector_columns
    if chosen is None and lists:
        chosen = ["vector"] if "vector" in lists else lists
        if len(chosen) > 1:
            raise BadInput(
                f"{where} has {len(lists)} columns of lists of numbers ({', '.join(lists)}); expected one, or one "
                "called 'vector'. Name it with --vector-columns"
            )
    elif chosen is None:
        label = request.choose_label(columns, where)
        chosen = [column for column in columns if column != label]
    for column in chosen:
        if column not in columns:
            raise missing_column(where, column, columns, "--vector-columns")
    strangers = [column for column in chosen if columns[column] != NUMBER]
    if strangers and not (len(chosen) == 1 and strangers[0] in lists):
        raise BadInput(
            f"{where}: column {strangers[0]!r} holds {columns[strangers[0]]}; expected {NUMBER}. Name the columns of "
            "numbers with --vector-columns, and that of the labels with --label-column"
        )
    if not chosen:
        raise BadInput(f"{where} has no column of numbers; its columns: {', '.join(columns) or 'none'}")
    return tuple(chosen)


def _holding(what: str, columns: Mapping[str, str]) -> list[str]:
    return [column for column, holds in columns.items() if holds == what]

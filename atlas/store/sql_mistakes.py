"""What the commonest mistakes in SQL are told as: what is wrong in words of the query, and what to write instead.

DuckDB's own message stands where none of these fits.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Mistake(NamedTuple):
    """The database's message, what the query holds besides, and the sentence, in which ``\\1`` is what the message
    says in its first brackets. Of several that fit, the first is told."""

    message: str
    query: str
    sentence: str


MISTAKES = (
    Mistake(
        "bit strings of different sizes",
        "",
        "codes of two sites are compared, which have different numbers of gates; keep to one site: "
        "`a.network = b.network and a.site = b.site` of spline_codes, `a.site_id = b.site_id` of codes",
    ),
    Mistake(
        r"column \"(.+?)\" must appear in the GROUP BY clause",
        "",
        r"column \1 is neither grouped by nor aggregated; add `group by all`, or take `any_value(\1)`",
    ),
    Mistake(
        "WHERE clause cannot contain aggregates",
        "",
        "where sees single rows, and an aggregate such as count(*) many; write the condition after group by, as "
        "`having count(*) > 1`",
    ),
    Mistake(
        "WHERE clause cannot contain window functions",
        "",
        "where comes before window functions are computed; write the condition as `qualify` in its place",
    ),
    Mistake(
        r"Referenced column \"[“”‘’](.*?)[“”‘’]\" not found",
        "",
        r"“\1” stands in curly quotes; a text stands in straight single ones: '\1'",
    ),
    Mistake(
        r"Referenced column \"(.+?)\" not found in FROM clause!.*?Candidate bindings: (.*)",
        r"[=<>]\s*\"",
        r"no column \1 (perhaps \2); double quotes name a column: if a text is meant, write '\1'",
    ),
    Mistake(
        r"Referenced column \"(.+?)\" not found in FROM clause!.*?Candidate bindings: (.*)",
        "",
        r"no column \1 in these tables; perhaps \2; if a text is meant, write '\1'",
    ),
    Mistake(
        r"\"(\w+)\" does not have a column named \"(.+?)\"(?: Candidate bindings: :? ?(.*))?",
        "",
        r"\1 has no column \2; `describe` and the table's name list those that it has",
    ),
    Mistake(
        r"Referenced column \"(.+?)\" was not found because the FROM clause is missing",
        "",
        r"column \1 is of no table; add a from: `select … from examples where …`",
    ),
    Mistake(
        r"Referenced table \"(.+?)\" not found! Candidate tables: (.*)",
        "",
        r"no table or alias \1 stands in from; there is \2",
    ),
    Mistake(
        r"Table with name (\S+) does not exist! Did you mean (\".+\")\?",
        "",
        r"no table \1; perhaps \2; `show tables` lists all",
    ),
    Mistake(
        r"Ambiguous reference to column name \"(.+?)\" \(use: (.*)\)",
        "",
        r"several tables have a column \1; say of which: \2",
    ),
    Mistake(
        r"Could not convert string '(.*)' to (?:U?INT\d+|FLOAT|DOUBLE|DECIMAL\S*)",
        "",
        r"the text '\1' is no number; compare texts with texts, or take `try_cast(… as double)`, which is null there",
    ),
    Mistake(
        r"No function matches .*? '(\w+)\(BOOLEAN\)'",
        "",
        r"\1 takes numbers, and this is true or false; write `\1(…::int)`",
    ),
    Mistake(
        r"No function matches .*? '(avg|sum|mean|median|stddev)\(VARCHAR\)'",
        "",
        r"\1 takes numbers, and this is a text; `try_cast(… as double)` makes numbers of texts",
    ),
    Mistake(
        r"No function matches .*? 'count\(\w+(?:, \w+)+\)'",
        "",
        "count takes one value; of several together: `count(distinct (label, token))`",
    ),
    Mistake(
        r"Macro (\w+)\(\) does not support the supplied arguments.*Candidate macros: (.*)",
        "",
        r"\1 takes other arguments: \2",
    ),
    Mistake(
        r"Cannot compare values of type \w+\[\] and type",
        "",
        "a list is compared with one value; its elements count from 1: `activation[1] > 0`",
    ),
    Mistake(
        r"bit index (\d+) out of valid range \(0\.\.(\d+)\)",
        "",
        r"gate \1 is none of this code, whose gates are 0 to \2; `is_on(code, \1)` is null there",
    ),
    Mistake(
        "More than one row returned by a subquery",
        "",
        "a select in brackets gives many rows where one value is expected; aggregate in it, or write `in`",
    ),
    Mistake(
        "unterminated (?:quoted string|string literal)",
        "",
        "a text is not closed; a quote inside a text is written twice: 'it''s'",
    ),
    Mistake(
        r"syntax error at or near \"(where)\"",
        r"(?is)\b(group\s+by|order\s+by|limit)\b.*\bwhere\b",
        "where stands too late; the order is from, where, group by, having, order by, limit",
    ),
    Mistake(
        r"syntax error at or near \"\d+\"",
        r"(?i)\bselect\s+top\b",
        "DuckDB has no top; write `limit` and the number at the end",
    ),
    Mistake(
        r"syntax error at or near \"(limit|group|order|having)\"",
        r"(?i)\b(and|or|where)\s+(limit|group|order|having)\b",
        r"a condition is missing before \1",
    ),
    Mistake(
        r"syntax error at or near \"(\w+)\"",
        r"(?i)^\s*(?!(?:select|with|from|describe|summarize|explain|show|values|pivot|unpivot)\b)\w",
        r"a query begins with select, with, from, describe or summarize, and not with \1",
    ),
    Mistake(
        r"syntax error at or near \"(\w+)\"",
        r"(?is)^\s*select\b(?!.*\bfrom\b).*\b(?:form|fron|fom|frm|fro|rfom)\b",
        r"from is missing or misspelt before \1",
    ),
    Mistake(
        r"syntax error at or near \"\.(\d+)\.?\"",
        "",
        "the name of a site or network is a text, and stands in quotes: site = 'blocks.2.mlp'",
    ),
    Mistake(
        r"syntax error at or near \"'(.*)'\"",
        "",
        r"before '\1' something is missing: a comma between two texts, or an operator",
    ),
)


def told(message: str, query: str) -> str | None:
    """The sentence for a message of the database on a query; None where the message is no common mistake's."""
    for mistake in MISTAKES:
        if (found := re.search(mistake.message, message)) and re.search(mistake.query, query):
            return found.expand(mistake.sentence)
    return None

"""What people and catalogues read of an atlas that was pushed: README.md with the card of a Hugging Face dataset, and
croissant.json."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import yaml

from atlas.store.atlas import Atlas

from .manifest import MANIFEST, Manifest, Part

README = "README.md"
CROISSANT = "croissant.json"
MARK = "polytope-atlas"
"""The tag that says that a README is one of ours."""

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""Hugging Face's categories, by number of examples."""

_TYPES = {
    "BLOB": "sc:Text",
    "BOOLEAN": "sc:Boolean",
    "DOUBLE": "sc:Float",
    "FLOAT": "sc:Float",
    "TIMESTAMP": "sc:DateTime",
}


def readme(atlas: Atlas, manifest: Manifest) -> str:
    """The page, with the card on top."""
    n_examples = manifest.rows("examples")
    card: dict[str, Any] = {"pretty_name": manifest.title, **_license(manifest.license)}
    card["tags"] = [MARK, "interpretability", "spline-codes"]
    card["size_categories"] = [next((name for most, name in SIZES if n_examples < most), "n>1M")]
    card["configs"] = [
        {
            "config_name": config_name(part),
            **({"default": True} if part.table == "examples" else {}),
            "data_files": [{"split": "train", "path": _folder(part)}],
        }
        for part in manifest.parts
        if part.shards
    ]
    head = yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{head}---\n\n{_page(atlas, manifest)}"


def _license(stated: str | None) -> dict[str, str]:
    """As a card says it: a name that Hugging Face may know, or the words."""
    if stated is None:
        return {"license": "unknown"}
    if re.fullmatch(r"[a-z0-9.-]+", stated.lower()):
        return {"license": stated.lower()}
    return {"license": "other", "license_name": stated}


def config_name(part: Part) -> str:
    """What a part is called where a name may hold few signs."""
    named = part.table if part.site is None else f"{part.table}.{part.network}.{part.site}"
    return re.sub(r"[^\w.-]", "_", named)


def _folder(part: Part) -> str:
    """All files of a part; nothing else is left in their folder."""
    return f"{part.shards[0].path.rpartition('/')[0]}/*.parquet"


def _page(atlas: Atlas, manifest: Manifest) -> str:
    networks = atlas.rows("select name, architecture, kind, weights_digest from networks order by network_id")
    datasets = atlas.rows("select name, kind, n_inputs, fingerprint from datasets order by dataset_id")
    sites = [
        (site.network, site.name, site.n_gates, site.n_codes, site.codes_digest or "", site.activations_digest or "")
        for site in atlas.catalog.sites
        if site.n_codes or site.n_activations
    ]
    parts = [(config_name(part), part.rows, part.bytes, len(part.shards)) for part in manifest.parts]
    stated = manifest.license or "not stated by who pushed it"
    left_out = (
        ""
        if manifest.inputs
        else (
            "\nTexts, images and vectors were left out, and with them the tokens, their contexts, and the results of "
            "experiments, which may quote them; keys, labels and hashes are here.\n"
        )
    )
    return f"""# {_plain(manifest.title)}

A [polytope atlas](https://arxiv.org/abs/2211.12312): what networks did on data, example by example. A *code* has a
bit a gate of a site, on or off, and names the polytope of activation space that the example lies in.
{left_out}
Licence of the data: {_plain(stated)}.

```sh
polytope pull THIS my.atlas      # an atlas again, checked against the digests below
```

Any reader of Parquet reads the files. Gate j of a code is bit 7 - j % 8 of byte j // 8; `{MANIFEST}` lists the files
with their SHA-256, and how many gates a site has.

```python
import duckdb
duckdb.sql("select example_id, bit_count(code::bit) as gates_on from 'data/codes/site-1/*.parquet' limit 5")
```

## Networks

{_table(("name", "architecture", "kind", "SHA-256 of the weights"), networks)}

## Data

{_table(("name", "kind", "inputs", "fingerprint"), datasets)}

## Sites

{_table(("network", "site", "gates", "codes", "digest of the codes", "digest of the activations"), sites)}

## Tables

{_table(("configuration", "rows", "bytes", "files"), parts)}

## Columns

{_table(("table", "column", "what it holds"), _columns(atlas, manifest))}
"""


def _columns(atlas: Atlas, manifest: Manifest) -> list[tuple[str, str, str]]:
    held = {part.table for part in manifest.parts}
    rows = atlas.rows('select "table", "column", comment from documentation')
    own = {("codes", "n_active"), ("codes", "code_hash"), ("activations", "part")}
    return [row for row in rows if row[0] in held and (row[0], row[1]) not in own]


def _table(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(_plain(cell) for cell in line)} |" for line in lines)


def _plain(cell: Any) -> str:
    """A cell that is shown as it is: a name that others gave is no Markdown, and ends no row."""
    text = f"{cell:,}" if isinstance(cell, int) else " ".join(str(cell).split())
    return text if text == "---" else re.sub(r"([\\`*_{}\[\]<>|#!~$&])", r"\\\1", text)


def croissant(atlas: Atlas, manifest: Manifest) -> bytes:
    """The same for machines, in MLCommons' Croissant 1.0."""
    files = [
        {
            "@type": "cr:FileObject",
            "@id": shard.path,
            "name": shard.path,
            "contentUrl": shard.path,
            "contentSize": f"{shard.bytes} B",
            "encodingFormat": "application/x-parquet",
            "sha256": shard.digest,
        }
        for part in manifest.parts
        for shard in part.shards
    ]
    sets = [
        {
            "@type": "cr:FileSet",
            "@id": f"files.{config_name(part)}",
            "name": f"files.{config_name(part)}",
            "encodingFormat": "application/x-parquet",
            "includes": _folder(part),
        }
        for part in manifest.parts
        if len(part.shards) > 1
    ]
    meaning = {(table, column): (kind, text) for table, column, kind, text in _documented(atlas)}
    records = [_records(part, meaning) for part in manifest.parts if part.shards]
    document = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": manifest.title,
        "description": "A polytope atlas: codes and activations of networks on data, example by example.",
        **({"license": manifest.license} if manifest.license else {}),
        "distribution": [*files, *sets],
        "recordSet": records,
    }
    return json.dumps(document, indent=1, ensure_ascii=False).encode()


def _documented(atlas: Atlas) -> list[tuple[str, str, str, str]]:
    return atlas.rows('select "table", "column", type, comment from documentation')


def _records(part: Part, meaning: dict[tuple[str, str], tuple[str, str]]) -> dict[str, Any]:
    name = config_name(part)
    columns = [column for table, column in meaning if table == part.table]
    if part.site_id is not None:
        columns = ["site_id", "example_id", "code" if part.table == "codes" else "activation"]
    many = len(part.shards) > 1
    source = {"fileSet": {"@id": f"files.{name}"}} if many else {"fileObject": {"@id": part.shards[0].path}}
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{column}",
                "name": f"{name}/{column}",
                "description": meaning[part.table, column][1],
                "dataType": _type(meaning[part.table, column][0]),
                **({"repeated": True} if meaning[part.table, column][0].endswith("[]") else {}),
                "source": {**source, "extract": {"column": column}},
            }
            for column in columns
        ],
    }


def _type(kind: str) -> str:
    kind = kind.removesuffix("[]")
    return _TYPES.get(kind, "sc:Integer" if "INT" in kind else "sc:Text")


_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The terms of Croissant, as its specification writes them."""

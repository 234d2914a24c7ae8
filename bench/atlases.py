"""Atlases of generated codes, written straight into the tables: what a bench asks about needs no network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

import atlas
from atlas.codes import SplineCodes
from atlas.store.atlas import Atlas
from atlas.store.digests import activations_digest, codes_digest
from ingest.derived.indexes import build_indexes
from ingest.networks.registry import RECORDED

NETWORK = "generated"
SITE = "blocks.0.mlp"
LABELS = 20
TOKENS_A_TEXT = 100
_ROWS = 8192  # inserted at a time


def generated_atlas(
    path: Path,
    codes: SplineCodes,
    *,
    sites: int = 1,
    activations: Float32[np.ndarray, "examples units"] | None = None,
    seed: int = 0,
) -> Path:
    """An atlas of one text network: an example for each code, with words, contexts and labels, and flat indexes.

    Each of the ``sites`` has the bytes of the first in another order, and so the same clusters; the last one stores
    ``activations``, if there are any.
    """
    with atlas.create(path) as a:
        with a.transaction():
            fixed_rows(a, len(codes), codes.n_bits, sites)
            a.expect_codes_of(codes.packed.shape[1])
            generator = np.random.default_rng(seed)
            for start in range(0, len(codes), _ROWS):
                rows = slice(start, min(start + _ROWS, len(codes)))
                ids = np.arange(rows.start + 1, rows.stop + 1)
                a.insert("examples", examples_of(ids, generator))
                for site in range(sites):
                    packed = np.roll(codes.packed[rows], 7 * site, axis=1)
                    a.insert(
                        "codes",
                        pa.table(
                            {
                                "site_id": np.full(len(ids), site + 1, np.uint16),
                                "example_id": ids,
                                "code": [row.tobytes() for row in packed],
                                "n_active": np.bitwise_count(packed).sum(axis=1),
                            }
                        ),
                    )
                if activations is not None:
                    a.insert(
                        "activations",
                        pa.table(
                            {
                                "site_id": np.full(len(ids), sites, np.uint16),
                                "example_id": ids,
                                "part": np.zeros(len(ids), np.uint16),
                                "activation": list(activations[rows]),
                            }
                        ),
                    )
        with a.transaction():
            for record in a.catalog.sites:
                n_codes, of_codes = codes_digest(a, record)
                n_activations, of_activations = activations_digest(a, record)
                a.execute(
                    "update sites set n_codes = $1, codes_digest = $2, n_activations = $3, activations_digest = $4 "
                    "where site_id = $5",
                    [n_codes, of_codes, n_activations, of_activations, record.site_id],
                )
    build_indexes(path)
    return path


def fixed_rows(a: Atlas, n: int, gates: int, sites: int) -> None:
    """What ``n`` examples of a network of so many sites and gates belong to."""
    a.execute(
        "insert into networks values (1, $1, 'none', 'text', $2, 'bench', '', '{}')",
        [NETWORK, RECORDED],  # nothing can be run, and nothing is tried
    )
    for site in range(sites):
        a.execute(
            "insert into sites (site_id, network_id, name, ordinal, scope, n_units, n_gates, nonlinearity, exact, "
            "unit_shape, layout) values ($1, 1, $2, $3, 'position', $4, $4, 'relu', true, [$4], '[]')",
            [site + 1, f"blocks.{site}.mlp", site, gates],
        )
    n_texts = -(-n // TOKENS_A_TEXT)
    a.execute("insert into datasets values (1, 'generated', 'text', 'bench', '', $1)", [n_texts])
    a.execute("insert into runs values (1, 'generated', 1, 1, $1, '', $2, 0, null, null)", [json.dumps({}), n])
    a.execute(
        "insert into inputs "
        "select i, 'text', 'hash ' || i, 'text ' || i, null, null, null, null, 1 from range(1, $1) as t(i)",
        [n_texts + 1],
    )
    a.execute("insert into dataset_inputs select 1, input_id - 1, input_id, 'text ' || input_id, null, 1 from inputs")


def examples_of(ids: np.ndarray, generator: np.random.Generator) -> pa.Table:
    """Tokens in contexts as long as those of a real ingestion."""
    words = np.array([f"word{number}" for number in range(5000)])
    around = generator.choice(words, (len(ids), 24))
    context = [" ".join(row) for row in around]
    token = around[:, 12]
    before = [len(" ".join(row[:12])) + 1 for row in around]
    labels = [f"label {number}" for number in generator.integers(0, LABELS, len(ids))]
    return pa.table(
        {
            "example_id": ids,
            "network_id": np.ones(len(ids), np.uint16),
            "run_id": np.ones(len(ids), np.uint16),
            "input_id": 1 + (ids - 1) // TOKENS_A_TEXT,
            "position": (ids - 1) % TOKENS_A_TEXT,
            "token": token.tolist(),
            "context": context,
            "context_offset": before,
            "label": labels,
            "prediction": generator.choice(words, len(ids)).tolist(),
            "probability": generator.random(len(ids)).astype(np.float32),
            "loss": generator.random(len(ids)).astype(np.float32),
        }
    )

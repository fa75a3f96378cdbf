"""Read a run directory with one reader and print what it sees: `python reading.py READER RUN`.

Runs where the readers are installed, without batchembed, as a user of its output would.
"""

import json
import sys
from pathlib import Path


def with_polars(run):
    import polars as pl

    parts = pl.scan_ipc(run / "embeddings" / "*.arrow").collect()
    kind = parts.schema["embedding"]
    yield "type", f"{kind.inner} {kind.size}"
    yield "rows", parts.select("id", "text", "number", "embedding").rows()
    yield "keys", [key and key.hex() for key in parts["embedding_key"].to_list()]
    yield "rejects", pl.read_ipc(run / "rejects.arrow").select("row", "id", "reason").rows()
    near = pl.read_ipc(run / "similarity" / "top_k.arrow")
    yield "near", [[n["id"] for n in row] if row is not None else None for row in near["neighbors"]]
    yield "filtered", parts.filter(pl.col("embedding").is_null())["id"].to_list()


def with_pandas(run):
    import pandas as pd

    parts = pd.concat([pd.read_feather(p) for p in sorted((run / "embeddings").iterdir())])
    first = parts["embedding"].iloc[0]
    yield "type", f"{first.dtype.name} {first.shape[0]}"
    told = parts[["id", "text", "number", "embedding"]].itertuples(index=False)
    vector = lambda v: None if v is None else [float(x) for x in v]
    text = lambda t: t if isinstance(t, str) else None
    yield "rows", [[i, text(t), int(n), vector(v)] for i, t, n, v in told]
    yield "keys", [None if key is None else key.hex() for key in parts["embedding_key"]]
    rejects = pd.read_feather(run / "rejects.arrow")[["row", "id", "reason"]]
    yield "rejects", [[int(row), i, why] for row, i, why in rejects.itertuples(index=False)]
    near = pd.read_feather(run / "similarity" / "top_k.arrow")["neighbors"]
    yield "near", [None if row is None else [n["id"] for n in row] for row in near]
    yield "filtered", parts[parts["embedding"].isna()]["id"].to_list()


def with_duckdb(run):
    import duckdb
    from pyarrow import dataset

    db = duckdb.connect()
    db.register("parts", dataset.dataset(run / "embeddings", format="ipc"))
    db.register("rejects", dataset.dataset(run / "rejects.arrow", format="ipc"))
    db.register("near", dataset.dataset(run / "similarity" / "top_k.arrow", format="ipc"))
    rows = lambda words: db.sql(words).fetchall()
    yield "type", rows("select distinct typeof(embedding) from parts")[0][0]
    yield "rows", rows("select id, text, number, embedding from parts order by number")
    keys = rows("select hex(embedding_key) from parts order by number")
    yield "keys", [key and key.lower() for (key,) in keys]
    yield "rejects", rows("select row, id, reason from rejects order by row")
    near = rows("select neighbors from near order by id")
    yield "near", [row and [n["id"] for n in row] for (row,) in near]
    filtered = rows("select id from parts where embedding is null order by number")
    yield "filtered", [i for (i,) in filtered]
    same = "select min(array_inner_product(embedding, embedding)) from parts"
    yield "least", rows(same)[0][0]


def with_datasets(run):
    import tempfile

    import datasets

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:
        load = lambda *names: datasets.load_dataset(
            "arrow", data_files=[str(run / n) for n in names], split="train", cache_dir=cache
        )
        names = sorted(p.relative_to(run).as_posix() for p in (run / "embeddings").iterdir())
        parts = load(*names)
        kind = parts.features["embedding"]
        yield "type", f"{kind.feature.dtype} {kind.length}"
        yield "rows", [[r["id"], r["text"], r["number"], r["embedding"]] for r in parts]
        yield "keys", [r["embedding_key"] and r["embedding_key"].hex() for r in parts]
        yield "rejects", [[r["row"], r["id"], r["reason"]] for r in load("rejects.arrow")]
        near = load("similarity/top_k.arrow")
        yield "near", [r["neighbors"] and [n["id"] for n in r["neighbors"]] for r in near]
        yield "filtered", parts.filter(lambda r: r["embedding"] is None)["id"][:]


if __name__ == "__main__":
    json.dump(dict(globals()[f"with_{sys.argv[1]}"](Path(sys.argv[2]))), sys.stdout)

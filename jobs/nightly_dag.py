"""Every night: the day's new articles become files, vectors, near-duplicates and a page to look at.

A DAG for Airflow 3, with `pip install "batchembed[airflow]"` where its workers run. Put it, or a
link to it, into the DAG folder, and try it without a scheduler:

    airflow dags test nightly_embeddings 2025-06-30

The model is the one inside the package: no key is needed. For a paid provider change [model], and
give the operator `conn_id="…"`, a connection whose password is the key.
"""

from __future__ import annotations

import os
from datetime import date, timedelta
from pathlib import Path

import pendulum
from airflow.sdk import DAG, get_current_context, task

from batchembed.airflow import BatchEmbedOperator

# Where sample_data/ is, and runs/ will be: the folder above this file's own, links followed.
HOME = Path(os.environ.get("BATCHEMBED_HOME") or Path(__file__).resolve().parent.parent)
RUN = "runs/nightly"
CORPUS = "runs/nightly-corpus"

with DAG(
    "nightly_embeddings",
    schedule="0 3 * * *",
    start_date=pendulum.datetime(2025, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    # 75 (held, outage, deadline, disk) and signals are tried again; 2 and 4 fail at once.
    default_args={"retries": 16, "retry_delay": timedelta(minutes=15)},
    tags=["batchembed"],
):

    @task
    def new_rows() -> int:
        """Write the day's articles as one more file of the corpus; before the first day, all."""
        import polars as pl

        day: date = get_current_context()["logical_date"].date()
        folder = HOME / CORPUS
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{day}.parquet"
        first = not any(other.stem < path.stem for other in folder.glob("*.parquet"))
        known = pl.col("date") <= day if first else pl.col("date") == day
        rows = pl.read_parquet(HOME / "sample_data/articles.parquet").filter(known)
        if rows.height:
            half_written = path.with_suffix(".tmp")
            rows.write_parquet(half_written)
            half_written.replace(path)  # a run never sees half a file
        return rows.height

    # The same directory every night: only texts that are new in the corpus are sent.
    embed = BatchEmbedOperator(
        task_id="embed",
        job={
            "corpus": {"path": f"{CORPUS}/*.parquet", "template": "{title}\n\n{text}", "id": "id"},
            "model": {"provider": "local"},
            "limits": {"deadline": "4h", "max_rejects": "1%"},
        },
        out=RUN,
        cwd=str(HOME),
    )

    @task
    def near_duplicates() -> int:
        """Write the pairs that say nearly the same; return how many there are."""
        from batchembed import similarity
        from batchembed.similarity import SimilaritySettings

        found = similarity(
            HOME / RUN, None, HOME / "runs/nightly-pairs.arrow", SimilaritySettings(min_score=0.9)
        )
        return found.scores

    @task
    def page() -> str:
        """Write the page to look at in the morning: runs/nightly/report.html."""
        from batchembed import report

        return report(HOME / RUN).files[0]

    new_rows() >> embed >> near_duplicates() >> page()

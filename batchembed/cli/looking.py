"""The commands that look at what there is: runs that are complete, and the providers."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from batchembed.cli.frame import answer, as_json, leaves, monitor_for

column_option = click.option(
    "--column", metavar="COL", help="The column of vectors, where a run has several."
)


@click.command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--sample", metavar="N", type=click.IntRange(0), default=0, help="Embed N rows again."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Which rows.")
@as_json
@leaves
def verify(run_directory: Path, sample: int, seed: int, as_json: bool) -> None:
    """Re-read a complete run and name what is not as promised (exit code 1).

    \b
    Example: batchembed verify runs/articles --sample 50
    """
    from batchembed import api
    from batchembed.words import verify_words

    found = api.verify(run_directory, sample=sample, seed=seed)
    answer(found, verify_words(found), as_json=as_json)
    if found.problems:
        sys.exit(1)


@click.command()
@click.argument("left", type=click.Path(path_type=Path))
@click.argument("right", type=click.Path(path_type=Path), required=False)
@click.option("--out", metavar="FILE", required=True, type=click.Path(path_type=Path))
@click.option("--top-k", type=click.IntRange(1), metavar="K", help="The K nearest of each row.")
@click.option("--min-score", type=float, metavar="S", help="All pairs that score at least S.")
@click.option("--groups", is_flag=True, help="With --min-score: near duplicates in groups.")
@click.option("--dense", is_flag=True, help="Every score.")
@click.option("--metric", type=click.Choice(["cosine", "dot"]), default="cosine", show_default=True)
@click.option("--dtype", type=click.Choice(["float32", "float16"]), default="float32")
@column_option
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Where: torch.")
@click.option("--force", is_flag=True, help="Also compare queries with queries, also over 10 GB.")
@as_json
@leaves
def similarity(
    left: Path, right: Path | None, out: Path, column: str | None, *, as_json: bool, **told: Any
) -> None:
    """Score the pairs within LEFT, or of LEFT (queries) against RIGHT (documents).

    The same command goes on after it was killed; where FILE holds the answer of fewer rows, it
    compares only what is new.

    \b
    Example: batchembed similarity runs/queries runs/documents --top-k 10 --out nearest.arrow
    """
    from batchembed import api
    from batchembed.similarity import SimilaritySettings
    from batchembed.words import compared_words

    settings = SimilaritySettings(**told)
    found = api.similarity(
        left, right, out, settings, column=column, monitor=monitor_for(quiet=as_json)
    )
    answer(found, compared_words(found, out), as_json=as_json)


@click.command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--count", type=click.IntRange(1), default=10, show_default=True, metavar="N")
@click.option("--least", is_flag=True, help="The least similar pairs.")
@click.option("--near", type=float, metavar="S", help="The pairs nearest to a score.")
@column_option
@as_json
@leaves
def pairs(run_directory: Path, count: int, *, as_json: bool, **told: Any) -> None:
    """Print the most similar pairs of rows; or the least similar, or those nearest to a score.

    \b
    Example: batchembed pairs runs/articles --near 0.9 --count 20
    """
    from batchembed import api
    from batchembed.words import pair_words

    found = api.pairs(run_directory, count, **told)
    answer(found, pair_words(found), as_json=as_json)


@click.command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--count", type=click.IntRange(1), metavar="N", required=True, help="How many.")
@click.option("--out", metavar="FILE", required=True, type=click.Path(path_type=Path))
@click.option("--seed", type=int, default=0, show_default=True, help="Where k-means begins.")
@column_option
@as_json
@leaves
def clusters(run_directory: Path, count: int, out: Path, *, as_json: bool, **told: Any) -> None:
    """Sort the rows of RUN into clusters, and write the cluster of each row.

    \b
    Example: batchembed clusters runs/articles --count 12 --out clusters.arrow
    """
    from batchembed import api
    from batchembed.words import cluster_words

    found = api.clusters(run_directory, count, out, **told)
    answer(found, cluster_words(found, out), as_json=as_json)


@click.command()
@click.argument("nearest", metavar="TOP_K", type=click.Path(path_type=Path))
@click.option("--of", metavar="RUN", required=True, type=click.Path(path_type=Path))
@click.option("--to", metavar="RUN", type=click.Path(path_type=Path), help="The other run, if any.")
@click.option("--out", metavar="FILE", required=True, type=click.Path(path_type=Path))
@as_json
@leaves
def neighbors(nearest: Path, of: Path, to: Path | None, out: Path, as_json: bool) -> None:
    """Join a --top-k file with the columns of its rows, as .csv for a spreadsheet or .parquet.

    \b
    Example: batchembed neighbors near.arrow --of runs/articles --out near.csv
    """
    from batchembed import api

    count = api.neighbors_table(nearest, of, out, to=to)
    answer({"rows": count, "out": str(out)}, f"{count:,} rows in {out}", as_json=as_json)


@click.command()
@click.argument("pairs", metavar="PAIRS", type=click.Path(path_type=Path))
@click.option("--min-score", type=float, metavar="S", required=True, help="The higher score.")
@click.option("--out", metavar="FILE", required=True, type=click.Path(path_type=Path))
@as_json
@leaves
def rethreshold(pairs: Path, min_score: float, out: Path, as_json: bool) -> None:
    """Write the pairs of PAIRS that score at least S, without comparing anything again.

    \b
    Example: batchembed rethreshold pairs.arrow --min-score 0.95 --out near.arrow
    """
    from batchembed import api

    count = api.rethreshold(pairs, min_score, out)
    answer({"pairs": count, "out": str(out)}, f"{count:,} pairs in {out}", as_json=as_json)


@click.command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("text", required=False, default="")
@click.option("--image", metavar="FILE", help="An image to search for; TEXT, if any, follows it.")
@click.option("--top-k", type=click.IntRange(1), default=5, show_default=True, metavar="K")
@column_option
@as_json
@leaves
def search(run_directory: Path, text: str, top_k: int, *, as_json: bool, **how: Any) -> None:
    """Print the rows of RUN that are nearest to TEXT.

    \b
    Example: batchembed search runs/articles "how do planets form" --top-k 3
    """
    from batchembed import api
    from batchembed.words import hit_words

    hits = api.search(run_directory, text, top_k, **how)
    answer(hits, hit_words(hits), as_json=as_json)


@click.command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "png"]),
    default="html",
    show_default=True,
    help="One page, or map and heat map as images.",
)
@click.option(
    "--rows",
    metavar="N",
    type=click.IntRange(1, 10_000),
    default=5000,
    show_default=True,
    help="Show at most N rows, drawn at random from more.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Which rows.")
@click.option(
    "--map",
    "map_by",
    type=click.Choice(["pca", "umap"]),
    default="pca",
    show_default=True,
    help="How vectors become points; umap is an extra.",
)
@click.option(
    "--colour",
    "--color",
    metavar="COL",
    default="cluster",
    show_default=True,
    help="The column that colours the map at first.",
)
@column_option
@as_json
@leaves
def report(run_directory: Path, form: Any, as_json: bool, **told: Any) -> None:
    """Make RUN/report.html to look at, and RUN/CARD.md.

    \b
    Example: batchembed report runs/articles
    """
    from batchembed import api
    from batchembed.words import report_words

    found = api.report(run_directory, form, **told)
    answer(found, report_words(found), as_json=as_json)


@click.command()
@click.argument("name", required=False)
@as_json
@leaves
def providers(name: str | None, as_json: bool) -> None:
    """List the providers, or tell all of one: models, limits, roles, and whether its key is set.

    \b
    Example: batchembed providers voyage
    """
    from batchembed.providers import listed
    from batchembed.words import provider_words

    found = listed(os.environ, name)
    answer(found, provider_words(found), as_json=as_json)

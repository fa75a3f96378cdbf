"""A run's rows sorted into clusters: a label for every row, and what each cluster is about."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchembed.api.comparing import arrow_writer
from batchembed.api.glancing import label
from batchembed.parts import RunVectors
from batchembed.similarity import clustered, write_clusters


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster: its number, how many rows it has, their mean cosine to its centre.

    `row`, `id` and `label` are of the row nearest to the centre: its number, id, a few words.
    """

    cluster: int
    rows: int
    score: float
    row: int
    id: Any
    label: str


def clusters(
    path: Path | str, count: int, out: Path | str, *, seed: int = 0, column: str | None = None
) -> list[Cluster]:
    """Sort a run's rows into `count` clusters; write a label for each row; return the clusters.

    By k-means on the directions of the vectors (scikit-learn, extra `cluster`), the largest
    first. `out` is an Arrow file of `id`, `cluster`, `score` (cosine to the centre) and `nearest`
    (whether it is the row nearest to the centre), in corpus order; null for rows without a vector.
    """
    run = RunVectors(Path(path), column=column)
    with arrow_writer(Path(out)) as writer:
        found = clustered(run, count, seed=seed)
        told = {"run": run.name, "column": run.vector, "count": count, "seed": seed}
        write_clusters(writer, found, run.ids, told)
        writer.commit()
    sizes, ids = found.sizes.tolist(), run.ids
    return [
        Cluster(
            cluster=number,
            rows=sizes[number],
            score=float(found.scores[found.of == number].mean()),
            row=row,
            id=ids[row].as_py(),
            label=label(run, row),
        )
        for number, row in enumerate(found.nearest.tolist())
    ]

"""Write sample_data/articles.parquet from articles.csv: the same rows, dates as dates."""

from __future__ import annotations

from pathlib import Path

import polars as pl

FOLDER = Path(__file__).parent.parent / "sample_data"


def main() -> None:
    """Write the file anew."""
    articles = pl.read_csv(FOLDER / "articles.csv", try_parse_dates=True)
    articles.write_parquet(FOLDER / "articles.parquet", compression="zstd", statistics=False)
    print(f"{len(articles)} articles")


if __name__ == "__main__":
    main()

"""Reading a corpus: Parquet, Arrow, CSV and JSON Lines files as texts, and as columns to keep."""

from __future__ import annotations

from batchembed.corpus.files import CorpusFile
from batchembed.corpus.looking import look
from batchembed.corpus.reading import Corpus, Rows, scan
from batchembed.corpus.settings import CorpusSettings
from batchembed.corpus.texts import rendered

__all__ = ["Corpus", "CorpusFile", "CorpusSettings", "Rows", "look", "rendered", "scan"]

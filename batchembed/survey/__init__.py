"""One pass over the corpus before anything is sent, and the feed of requests of the second."""

from batchembed.survey.feed import CorpusFeed
from batchembed.survey.lost import naming, over_tolerance
from batchembed.survey.rows import REASONS, Reading, Sent, keyed
from batchembed.survey.seen import Seen
from batchembed.survey.survey import Read, Survey

__all__ = [
    "REASONS",
    "CorpusFeed",
    "Read",
    "Reading",
    "Seen",
    "Sent",
    "Survey",
    "keyed",
    "naming",
    "over_tolerance",
]

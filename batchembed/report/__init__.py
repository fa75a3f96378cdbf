"""What a run came to, to look at: a page, figures for slides, a card."""

from batchembed.report.card import card
from batchembed.report.drawn import MOST_ROWS, draw
from batchembed.report.figures import Figures, figures
from batchembed.report.page import page
from batchembed.report.projection import METHODS, Method
from batchembed.report.slides import slides
from batchembed.report.told import Told

__all__ = [
    "METHODS",
    "MOST_ROWS",
    "Figures",
    "Method",
    "Told",
    "card",
    "draw",
    "figures",
    "page",
    "slides",
]

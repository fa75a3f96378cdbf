"""When the next request may start: known limits, limits to be found, outages, open requests."""

from batchembed.pacing.figures import Figures, Use
from batchembed.pacing.pacer import Pacer
from batchembed.pacing.shared import Link, Shared
from batchembed.pacing.state import Permit, Rates

__all__ = ["Figures", "Link", "Pacer", "Permit", "Rates", "Shared", "Use"]

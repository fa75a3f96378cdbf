"""The ledger: what is paid for or rejected, and where each vector is."""

from batchembed.ledger.bill import Bill
from batchembed.ledger.checkpoint import Ledger, Published
from batchembed.ledger.files import forget, has_submissions, holds_anything, size_of
from batchembed.ledger.join import Missing
from batchembed.ledger.places import NOWHERE, Places, Reader, Source

__all__ = [
    "NOWHERE",
    "Bill",
    "Ledger",
    "Missing",
    "Places",
    "Published",
    "Reader",
    "Source",
    "forget",
    "has_submissions",
    "holds_anything",
    "size_of",
]

"""What tokens cost: the table of the package, the user's own, and sums over what was paid."""

from batchembed.prices.cost import Cost, cost
from batchembed.prices.price import Lane, Price, amount
from batchembed.prices.table import PRIVATE, find, read, table

__all__ = ["PRIVATE", "Cost", "Lane", "Price", "amount", "cost", "find", "read", "table"]

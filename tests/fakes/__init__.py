"""Stand-ins for what the tests must not reach: embedding APIs over real sockets.

Use `async with Server(...) as server` inside a loop, `with running(...) as server` outside one,
`python -m tests.fakes.server` for a process of its own. What is right is `vector(text, …)`.
"""

from .api import Server, running
from .bill import Bill, read_bill
from .faults import Fault, Seen
from .vectors import tokens, vector, vectors

__all__ = [
    "Bill",
    "Fault",
    "Seen",
    "Server",
    "read_bill",
    "running",
    "tokens",
    "vector",
    "vectors",
]

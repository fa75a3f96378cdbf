"""A run directory: whose it is, what it holds, and whether a job has anything left to do there."""

from batchembed.directory.parted import Agreement, agreed, claim_shard, last
from batchembed.directory.whole import (
    CANARIES,
    HISTORY,
    IDENTITY,
    JOB,
    PROGRESS,
    Identity,
    check_spec,
    claim,
    holder,
    is_compared,
    is_done,
    is_run,
    keep_job,
    open_ledger,
    read_history,
)

__all__ = [
    "CANARIES",
    "HISTORY",
    "IDENTITY",
    "JOB",
    "PROGRESS",
    "Agreement",
    "Identity",
    "agreed",
    "check_spec",
    "claim",
    "claim_shard",
    "holder",
    "is_compared",
    "is_done",
    "is_run",
    "keep_job",
    "last",
    "open_ledger",
    "read_history",
]

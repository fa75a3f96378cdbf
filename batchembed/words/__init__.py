"""What commands say to people about what they found."""

from batchembed.words.looking import (
    cluster_words,
    compared_words,
    hit_words,
    pair_words,
    provider_words,
    report_words,
    verify_words,
)
from batchembed.words.plain import json_words, mistake, shown
from batchembed.words.running import (
    begun_words,
    limiter_words,
    plan_words,
    run_words,
    shard_words,
    status_words,
)

__all__ = [
    "begun_words",
    "cluster_words",
    "compared_words",
    "hit_words",
    "json_words",
    "limiter_words",
    "mistake",
    "pair_words",
    "plan_words",
    "provider_words",
    "report_words",
    "run_words",
    "shard_words",
    "shown",
    "status_words",
    "verify_words",
]

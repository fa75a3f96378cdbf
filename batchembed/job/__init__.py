"""Job files: loaded, checked as a whole, and frozen into a Job."""

from batchembed.job.allowed import RoleColumn
from batchembed.job.beginning import FirstJob, first_job
from batchembed.job.job import Job
from batchembed.job.loading import from_dict, job_of, load, schema
from batchembed.job.quantities import Tolerance, seconds
from batchembed.job.secrets import secret
from batchembed.job.settings import (
    Access,
    Corpus,
    Limits,
    Metrics,
    Model,
    Output,
    Price,
    Similarity,
)

__all__ = [
    "Access",
    "Corpus",
    "FirstJob",
    "Job",
    "Limits",
    "Metrics",
    "Model",
    "Output",
    "Price",
    "RoleColumn",
    "Similarity",
    "Tolerance",
    "first_job",
    "from_dict",
    "job_of",
    "load",
    "schema",
    "seconds",
    "secret",
]

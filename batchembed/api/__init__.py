"""What can be asked about a job or a run: plan, status, verify, similarity, search."""

from batchembed.api.comparing import Hit, search, similarity
from batchembed.api.looking import status
from batchembed.api.planning import plan
from batchembed.api.verifying import verify

__all__ = ["Hit", "plan", "search", "similarity", "status", "verify"]

"""What can be asked about a job or a run: plan, status, verify, similarity, search."""

from batchembed.api.comparing import Glance, Hit, glance, search, similarity
from batchembed.api.looking import status
from batchembed.api.planning import plan
from batchembed.api.verifying import verify

__all__ = ["Glance", "Hit", "glance", "plan", "search", "similarity", "status", "verify"]

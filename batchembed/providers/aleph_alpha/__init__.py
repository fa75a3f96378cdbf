"""Aleph Alpha: what to send for a request at each of its endpoints, and what answers mean."""

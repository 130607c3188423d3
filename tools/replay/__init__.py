"""Replays a file of sales as stock transactions through the REST API."""

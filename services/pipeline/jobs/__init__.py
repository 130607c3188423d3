"""Batch jobs: what they are, how they run, and what came of it."""

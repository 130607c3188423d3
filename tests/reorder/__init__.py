"""Tests of the reorder service."""

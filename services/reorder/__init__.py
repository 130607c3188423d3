"""Decides what to order, and when: policies, inventory positions, recommendations."""

"""Answers questions about the past: transaction history, metric history, velocity, trends and totals."""

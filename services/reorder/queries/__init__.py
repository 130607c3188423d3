"""SQL of the reorder service: one statement per function, set-based over stock items."""

"""REST routes of the reorder service, one file per resource."""

"""REST routes of the analytics service, one file per resource."""

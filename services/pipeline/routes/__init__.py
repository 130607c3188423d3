"""REST routes of the pipeline service, one file per resource."""

"""What every service with consumers shows its operators: lag, outbox and dead letters. Stands on the two libraries."""

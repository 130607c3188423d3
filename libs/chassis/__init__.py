"""What every service stands on: HTTP application, database, errors, auth, logs, paging, process."""

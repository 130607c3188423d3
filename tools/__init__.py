"""Programs that use the running services like any client: replay, simulator, demo."""

"""WHO RECEIVED WHAT: real workers, started fast and never left behind."""

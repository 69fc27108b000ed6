"""Programs around the project: `python -m tools.NAME --help`."""

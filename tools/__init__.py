"""Programs for those who work on Waybill; each has a `--help`."""

"""The case table, by subject."""

"""README and docs say what the programs print."""

"""Speed, measured beside a reference in the same run: see docs/explanation/performance.md."""

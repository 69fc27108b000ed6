"""What the whole fleet does: the modules here share one for each broker, and one run of each lesson."""

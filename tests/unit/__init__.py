"""Values and pure functions: no socket, no process of another kind than Python itself, under 30 s."""

"""What tests share: case tables, clients, programs, small applications."""

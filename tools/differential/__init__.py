"""The embedded broker beside RabbitMQ: generated scripts of method calls, compared call by call."""

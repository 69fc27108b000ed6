"""The embedded broker and RabbitMQ, through one client."""

"""Know where every Celery task goes on RabbitMQ: before you publish it, while it flows, and in your tests."""

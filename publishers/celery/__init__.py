"""The rest of Celery: calling, entry points, precedence, waiting, queues, rates, canvas, signals, reliability."""

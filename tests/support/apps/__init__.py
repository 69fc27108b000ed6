"""Small Celery applications."""

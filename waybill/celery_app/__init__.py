"""What Waybill asks of a Celery application: its broker, declarations, publications, calls and workers.

Celery itself answers. Nothing is published, nobody is connected to, and no handler of the application's is called.
"""

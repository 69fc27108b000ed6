"""DELIVER: the Celery application that the showcase's workers run, and that its publishers publish with.

`celery -A worker ...` looks for a name `app` or `celery` here; `app` is the module, so the application is `celery`.
"""

from worker.app import app as celery

__all__ = ["celery"]

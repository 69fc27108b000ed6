"""Celery workers as processes of this machine, forked from one process that has loaded Celery already.

starter → zygote → workers → their pool processes

The *starter* (the tour, pytest, a lesson) asks a *zygote* to start workers. The zygote is a process that has loaded
Celery and nothing of the application: each worker is a fork of it that runs its command line from the beginning, its
application included, so that what an application makes at import (a Broadcast queue's uuid, a setting from the
environment, `sys.argv`) is each worker's own. A command that can't be run in a fork is started as a program.

Whoever ends takes down what is below it: the zygote ends with its starter, the workers with the zygote.
"""

from waybill.testing.workers.libraries import loaded_by
from waybill.testing.workers.local import LocalWorkers
from waybill.testing.workers.starter import Zygote

__all__ = ["LocalWorkers", "Zygote", "loaded_by"]

"""The worker without the command `celery`: python -m worker -n videos@%h -Q videos"""

from __future__ import annotations

import sys

from worker.app import app

if __name__ == "__main__":
    app.worker_main(["worker", *sys.argv[1:]])

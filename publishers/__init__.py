"""PUBLISH: one program for each lesson, `python -m publishers.topic`; `python -m publishers` plays several of them."""

import sys

if sys.argv[0] == "-m":  # so it is while Python looks for the program; Celery is not loaded yet, which takes a while
    try:
        from waybill.cli.ending import ending
        from waybill.cli.status import status

        ending.exit_while_loading()
        status.begin("loading Celery and the lessons")
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted; nothing had been started\n")
        sys.exit(130)

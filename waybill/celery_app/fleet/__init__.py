"""Which worker consumes which queues, read from where the fleet is described. Nothing is started.

    services.py      what every description comes to: a service with its words and its environment
    compose.py       compose files         kubernetes.py   manifests
    processes.py     Procfiles, supervisor's programs, systemd's units
    variables.py     `${QUEUES:-celery}`   scripts.py      launchers off, shell scripts read
    command_line.py  Celery's own option parsers and its own selection of queues
    reading.py       all of it             workers.py      the result

A service that can't be read takes nothing else down. It is named with its reason, in `Fleet.unread`.
"""

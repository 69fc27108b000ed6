"""Priority: a queue with `x-max-priority` hands out its highest message first, and equals in the order they came.

It can only reorder what still waits in the queue: a worker that has prefetched ten messages runs them in the order in
which it got them. That is why the workers here take one message at a time (`worker_prefetch_multiplier = 1` with
`task_acks_late`), and why an idle worker shows no priority at all.

`x-max-priority` stands on this one queue. The setting `task_queue_max_priority = 10` would put it on *every* queue of
the app that doesn't say otherwise: each then costs ten sub-queues, RabbitMQ refuses it on quorum queues, and existing
queues fail with 406 because the argument can't be changed. `task_default_priority` is milder: it only gives *messages*
a priority; on a queue without `x-max-priority` that means nothing. Both are therefore left unset here.

    exchange  published priorities  served by the queue `tasks`
    tasks     1, 9, 5               9, 5, 1
    tasks     none, 99, 10          99, 10, none (above 10 counts as 10, none counts as 0)
"""

from __future__ import annotations

from kombu import Exchange, Queue

MAX_PRIORITY = 10

tasks = Exchange("tasks", type="direct")

QUEUES = (Queue("tasks", tasks, routing_key="tasks", queue_arguments={"x-max-priority": MAX_PRIORITY}),)
EXCHANGES = (tasks,)

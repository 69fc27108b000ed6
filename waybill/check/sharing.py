"""Queues that several share in another way than expected, or that one worker has alone: WB217, WB318 to WB320."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from waybill.celery_app.names import BROADCAST_PREFIX
from waybill.celery_app.publication import message_of
from waybill.check.facts import Facts, Sent
from waybill.check.finding import Found, Severity, rule
from waybill.check.phrases import all_of
from waybill.routing.dead_letters import Reason
from waybill.topology import Queue


@rule(
    "WB217",
    "An exclusive queue is used by a second connection",
    Severity.ERROR,
    symptom="405 RESOURCE_LOCKED: the worker doesn't start, or no task can be published.",
    cause="Only the connection that declares an exclusive queue may use it. Celery declares a task's queue with each "
    "publication too, so that the worker and the publisher exclude each other.",
    failing="""
app.conf.task_queues = [Queue("celery", exclusive=True)]

@app.task
def report(): ...
""",
    fixed="""
app.conf.task_queues = [Queue("celery")]

@app.task
def report(): ...
""",
    source="https://www.rabbitmq.com/docs/queues#exclusive-queues",
)
def exclusive(facts: Facts) -> Iterator[Found]:
    for queue in facts.app.queues:
        if not queue.exclusive or queue.name.startswith(BROADCAST_PREFIX):
            continue
        tasks = sorted({sent.task for sent in facts.app.publications() if _declares(sent, queue)})
        workers = facts.fleet.consumers(queue.name) if facts.fleet else ()
        users = [f"publications of {all_of(tasks[:5])} declare it"] if tasks else []
        if sum(worker.copies for worker in workers) > 1 or (workers and tasks):
            users.append(f"{all_of(worker.name for worker in workers)} consume it")
        if users:
            yield Found(
                (queue.name, *tasks),
                f"`{queue.name}` is exclusive, and {' and '.join(users)}: the first connection gets it, the others 405",
                f'Queue("{queue.name}", ...) without exclusive; for a queue of each worker, Broadcast("{queue.name}")',
            )


def _declares(sent: Sent, queue: Queue) -> bool:
    return any(one.name == queue.name for one in sent.published.declares)


@rule(
    "WB318",
    "Each worker runs every task of a stream",
    Severity.ERROR,
    symptom="With two workers each task runs twice, and tasks that were sent while no worker ran never run.",
    cause="Reading a stream removes nothing: each consumer gets every message from the moment it starts, and an "
    "acknowledgement doesn't count for the others.",
    failing="""
app.conf.task_queues = [Queue("celery", queue_arguments={"x-queue-type": "stream"})]

@app.task(name="proj.report")
def report(): ...
""",
    fixed="""
app.conf.task_queues = [Queue("celery", queue_arguments={"x-queue-type": "quorum"})]

@app.task(name="proj.report")
def report(): ...
""",
    source="https://www.rabbitmq.com/docs/streams#usage",
)
def work_in_a_stream(facts: Facts) -> Iterator[Found]:
    for queue, tasks in _ending(facts).items():
        if queue.type == "stream" and (facts.fleet is None or facts.fleet.consumers(queue.name)):
            yield Found(
                (queue.name, *tasks),
                f"`{queue.name}` is a stream: every worker that consumes it runs {all_of(tasks[:5])}, and none runs "
                "what was sent before it started",
                f'Queue("{queue.name}", ..., queue_arguments={{"x-queue-type": "quorum"}})',
            )


@rule(
    "WB319",
    "A single active consumer doesn't run tasks in order",
    Severity.NOTE,
    symptom="A queue has x-single-active-consumer so that tasks run one after the other, and they overlap.",
    cause="RabbitMQ gives all messages of the queue to one worker. That worker runs as many of them at once as it has "
    "processes, and the other workers wait.",
    failing="""
app.conf.task_queues = [Queue("celery", queue_arguments={"x-single-active-consumer": True})]

@app.task
def book(): ...
""",
    fixed="""
app.conf.worker_concurrency = 1
app.conf.task_queues = [Queue("celery", queue_arguments={"x-single-active-consumer": True})]

@app.task
def book(): ...
""",
    source="https://www.rabbitmq.com/docs/consumers#single-active-consumer",
)
def overlapping(facts: Facts) -> Iterator[Found]:
    for queue, tasks in _ending(facts).items():
        if queue.setting("single-active-consumer") is not True:
            continue
        workers = facts.fleet.consumers(queue.name) if facts.fleet else ()
        at_once = {worker.concurrency or facts.app.concurrency for worker in workers} or {facts.app.concurrency}
        if at_once != {1}:
            yield Found(
                (queue.name, *tasks),
                f"one worker at a time gets the tasks of `{queue.name}`, and runs as many at once as it has processes: "
                f"{all_of(tasks[:5])} may overlap",
                f"celery -A proj worker -Q {queue.name} -c 1",
            )


@rule(
    "WB320",
    "A worker consumes the dead letters of its own queue",
    Severity.WARNING,
    needs=("fleet",),
    symptom="A rejected task runs again at once, on the worker that rejected it, and is in no dead-letter queue later.",
    cause="A worker without `-Q` consumes every queue of `task_queues`, the dead-letter queue too. What is rejected "
    "there goes to the dead-letter exchange of that queue, or is gone.",
    failing="""
fleet = "all: celery -A proj worker -n all@%h"
app.conf.task_default_queue = "orders"
app.conf.task_queues = [
    Queue("orders", queue_arguments={"x-dead-letter-exchange": "dead", "x-dead-letter-routing-key": "dead"}),
    Queue("dead", Exchange("dead", "direct"), "dead"),
]

@app.task(acks_late=True)
def order():
    from celery.exceptions import Reject
    raise Reject("no stock", requeue=False)
""",
    fixed="""
from celery.signals import worker_init
fleet = "all: celery -A proj worker -n all@%h -X dead"
app.conf.task_default_queue = "orders"
dead = Queue("dead", Exchange("dead", "direct"), "dead")
app.conf.task_queues = [
    Queue("orders", queue_arguments={"x-dead-letter-exchange": "dead", "x-dead-letter-routing-key": "dead"}),
    dead,
]

@worker_init.connect
def declare_dead_letters(**_):
    with app.connection_for_write() as connection:
        dead(connection).declare()

@app.task(acks_late=True)
def order():
    from celery.exceptions import Reject
    raise Reject("no stock", requeue=False)
""",
    source="https://www.rabbitmq.com/docs/dlx",
)
def own_dead_letters(facts: Facts) -> Iterator[Found]:
    assert facts.fleet is not None
    found: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for sent in facts.app.publications():
        for name in sent.queues or ():
            queue = facts.app.router.queues[name]
            reason: Reason = "rejected" if _may_reject(facts, sent.task) else "delivery_limit"
            if reason != "rejected" and queue.type != "quorum":
                continue
            letter = facts.app.router.dead_letters(name, message_of(sent.published), reason)
            for worker in facts.fleet.consumers(name):
                for dead in set(letter.queues).intersection(worker.queues) - {name}:
                    found[worker.name, name, dead].add(sent.task)
    for (worker_name, name, dead), tasks in found.items():
        yield Found(
            (worker_name, name, dead, *sorted(tasks)),
            f"`{worker_name}` consumes `{name}` and `{dead}`, where the dead letters of `{name}` go: a dead letter of "
            f"{all_of(sorted(tasks)[:5])} runs again at once",
            f"-X {dead} for that worker; then no worker declares `{dead}`: celery -A proj waybill declare does",
        )


def _may_reject(facts: Facts, task: str) -> bool:
    known = facts.app.tasks.get(task)
    return known is not None and known.acks_late and (known.rejects or known.reject_on_worker_lost)


def _ending(facts: Facts) -> dict[Queue, list[str]]:
    """The queues in which publications end -> their tasks."""
    found: dict[Queue, set[str]] = defaultdict(set)
    for sent in facts.app.publications():
        for name in sent.queues or ():
            found[facts.app.router.queues[name]].add(sent.task)
    return {queue: sorted(tasks) for queue, tasks in found.items()}

"""Delivery guarantees that do not hold: late acks, publications without confirms: WB308, WB310, WB314, WB316."""

from __future__ import annotations

from collections.abc import Iterator

from waybill.check.facts import Facts
from waybill.check.finding import Found, Severity, rule
from waybill.check.phrases import all_of, with_confirms


@rule(
    "WB308",
    "Late acks don't survive a killed process",
    Severity.NOTE,
    symptom="The kernel kills a task's process, for example because of its memory, and the task is gone in spite of "
    "`acks_late`.",
    cause="When a pool process dies, the worker itself lives on and acknowledges the message. Only "
    "`task_reject_on_worker_lost` requeues it; a task that kills its process then does so again and again.",
    failing="""
app.conf.task_acks_late = True

@app.task
def import_file(): ...
""",
    fixed="""
app.conf.task_acks_late = True
app.conf.task_reject_on_worker_lost = True

@app.task
def import_file(): ...

app.conf.broker_transport_options = {"confirm_publish": True}
""",
    source="https://docs.celeryq.dev/en/stable/userguide/configuration.html#task-reject-on-worker-lost",
)
def acknowledged_when_lost(facts: Facts) -> Iterator[Found]:
    tasks = sorted(task.name for task in facts.app.own_tasks() if task.acks_late and not task.reject_on_worker_lost)
    if tasks:
        more = f" and {len(tasks) - 3} more" if len(tasks) > 3 else ""
        setting = "task_acks_late" if facts.app.conf.task_acks_late else "acks_late"
        yield Found(
            (setting, *tasks),
            f"acknowledged late, but also acknowledged when their process is killed: {all_of(tasks[:3])}{more}",
            "app.conf.task_reject_on_worker_lost = True, for tasks that may run twice",
        )


@rule(
    "WB310",
    "Without publisher confirms, a call can return although the task is lost",
    Severity.NOTE,
    symptom="apply_async returned an id, the broker's node went down, and the task was never stored.",
    cause="A confirm says that RabbitMQ has the message. Celery asks for confirms only if `confirm_publish` is set.",
    failing="""
app.conf.task_queues = [Queue("celery", queue_arguments={"x-queue-type": "quorum"})]
app.conf.task_acks_late = True
""",
    fixed="""
app.conf.task_queues = [Queue("celery", queue_arguments={"x-queue-type": "quorum"})]
app.conf.task_acks_late = True
app.conf.broker_transport_options = {"confirm_publish": True}
""",
    source="https://www.rabbitmq.com/docs/confirms",
)
def unconfirmed(facts: Facts) -> Iterator[Found]:
    conf = facts.app.conf
    # Whoever acknowledges late wants no task lost; the publisher's side of it is easily forgotten.
    if conf.task_acks_late and not (conf.broker_transport_options or {}).get("confirm_publish"):
        yield Found(
            ("confirm_publish",),
            "tasks are acknowledged late so that none is lost, but published without confirms: a task that the "
            "broker never stored looks as if it had been sent",
            with_confirms(facts),
        )


@rule(
    "WB316",
    "A late confirm is taken for the confirm of another message",
    Severity.WARNING,
    symptom="A task runs up to four times, or a task is lost although its call returned.",
    cause="With `confirm_timeout`, the call stops waiting before the broker has confirmed. Celery then publishes the "
    "task again (`retry`, three times by default). py-amqp takes the late confirm for the confirm of the next "
    "message on the channel, even if the broker refused that one.",
    failing="""
app.conf.broker_transport_options = {"confirm_publish": True}

@app.task
def index(): ...

def later():
    index.apply_async(confirm_timeout=1)
""",
    fixed="""
app.conf.broker_transport_options = {"confirm_publish": True}

@app.task
def index(): ...

def later():
    index.apply_async()
""",
    source="https://www.rabbitmq.com/docs/confirms#publisher-confirms",
)
def given_up(facts: Facts) -> Iterator[Found]:
    if not (facts.app.conf.broker_transport_options or {}).get("confirm_publish"):
        return  # nothing is waited for
    for sent in facts.app.publications():
        seconds = sent.published.confirm_timeout
        if seconds is not None:
            yield Found(
                (sent.task, "confirm_timeout"),
                f"after {seconds:g} s without a confirm it is published again, and the late confirm counts for another "
                "message",
                "no confirm_timeout; broker_transport_options with a read_timeout ends a connection that is dead",
                sent.where,
            )


@rule(
    "WB314",
    "`Reject` does nothing to a message that was acknowledged early",
    Severity.WARNING,
    symptom="A task raises `Reject`, and its message is in no dead-letter queue.",
    cause="Without late acks, the worker acknowledges a message before the task runs. Then the broker has already "
    "removed the message: `Reject` does nothing, with or without `requeue=True`.",
    failing="""
app.conf.task_queues = [
    Queue("celery", queue_arguments={"x-dead-letter-exchange": "dead"}),
    Queue("dead", Exchange("dead", "fanout")),
]

@app.task
def cancel():
    from celery.exceptions import Reject
    raise Reject("unknown order", requeue=False)
""",
    fixed="""
app.conf.task_queues = [
    Queue("celery", queue_arguments={"x-dead-letter-exchange": "dead"}),
    Queue("dead", Exchange("dead", "fanout")),
]

@app.task(acks_late=True, reject_on_worker_lost=True)
def cancel():
    from celery.exceptions import Reject
    raise Reject("unknown order", requeue=False)
""",
    source="https://docs.celeryq.dev/en/stable/userguide/tasks.html#reject",
)
def rejected_early(facts: Facts) -> Iterator[Found]:
    tasks = [task for task in facts.app.own_tasks() if task.rejects and not task.acks_late]
    if tasks:
        yield Found(
            tuple(task.name for task in tasks),
            "its code uses `Reject`, and acks_late is off: the message is acknowledged before the task runs, and "
            "nothing is dead-lettered or requeued",
            "@app.task(acks_late=True)",
            tasks[0].where,
        )

"""What a countdown, an ETA or a retry changes: WB102, WB107."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from waybill.celery_app.installed import CELERY_VERSION, HAS_NATIVE_DELAY, NATIVE_DELAY_FROM
from waybill.celery_app.names import is_delayed
from waybill.check.facts import Facts, Sent
from waybill.check.finding import Found, Severity, rule
from waybill.check.phrases import all_of, published

DENIED_FROM = (4, 3)
"""The version of RabbitMQ that denies global QoS unless it is told otherwise."""


@rule(
    "WB102",
    "A few delayed tasks stall a worker",
    Severity.WARNING,
    needs=("version",),
    symptom="While tasks with a countdown wait, a worker takes no other task, although its processes are idle.",
    cause="Delayed tasks wait unacknowledged in the worker. For each of them Celery raises the prefetch count of the "
    "whole channel. RabbitMQ 4.3 silently applies that count to new consumers only, so the existing consumer "
    "keeps its old limit.",
    failing="""
rabbitmq = "4.3"

@app.task(bind=True)
def fetch(self):
    raise self.retry(countdown=60)
""",
    fixed="""
rabbitmq = "4.3"
app.conf.task_queues = [
    Queue("celery", Exchange("work", "topic"), "work", queue_arguments={"x-queue-type": "quorum"})
]

@app.task(bind=True)
def fetch(self):
    raise self.retry(countdown=60)
""",
    source="https://github.com/rabbitmq/rabbitmq-server/issues/15460",
)
def stalled(facts: Facts) -> Iterator[Found]:
    multiplier = facts.app.prefetch_multiplier
    if not _global_qos_is_denied(facts) or not multiplier:
        return
    # One worker, one cause: the tasks that wait in the same queues.
    waits: dict[tuple[str, ...], dict[str, tuple[Sent, Sent]]] = defaultdict(dict)
    for sent, waiting in _waiting(facts):
        if waiting.publication is None or is_delayed(waiting.published.exchange):
            continue
        if waiting.call.get("countdown"):  # nought is no delay at all
            waits[waiting.queues or ()].setdefault(sent.task, (sent, waiting))
    for queues, tasks in waits.items():
        sent, waiting = next(iter(tasks.values()))
        processes = _processes(facts, waiting)
        held = f"{processes} x {multiplier} = {processes * multiplier}" if processes else f"processes x {multiplier}"
        yield Found(
            (*tasks, *queues),
            f"with a delay, {'they wait' if len(tasks) > 1 else 'it waits'} in a worker of {all_of(queues)}: "
            f"after {held} such tasks (processes x worker_prefetch_multiplier) the worker takes no other task until "
            "one is due",
            _FIX,
            sent.where or facts.app.tasks[sent.task].where,
        )


_FIX = 'a quorum queue on a topic exchange, queue_arguments={"x-queue-type": "quorum"}, or a worker of their own'
if not HAS_NATIVE_DELAY:
    _FIX = f"a worker of their own; Celery {CELERY_VERSION} can't hand a delay to RabbitMQ, 5.5 and later can"


def _global_qos_is_denied(facts: Facts) -> bool:
    if facts.live is not None and facts.live.denied | facts.live.permitted:
        return "global_qos" in facts.live.denied
    return facts.version is not None and facts.version >= DENIED_FROM


def _waiting(facts: Facts) -> Iterator[tuple[Sent, Sent]]:
    """The publications with a countdown, of calls in the code and of retries."""
    yield from ((sent, sent) for sent in facts.app.publications() if "countdown" in sent.call)
    yield from facts.app.retried


def _processes(facts: Facts, sent: Sent) -> int | None:
    """The least concurrency among the workers of a queue, where it is known."""
    configured = facts.app.concurrency
    if facts.fleet is None:
        return configured
    found = [worker.concurrency or configured for queue in sent.queues or () for worker in facts.fleet.consumers(queue)]
    return min((count for count in found if count), default=configured)


@rule(
    "WB107",
    "A countdown changes where the task goes",
    Severity.WARNING,
    celery=NATIVE_DELAY_FROM,
    symptom="With a countdown or on a retry, publishing fails, or the task goes to another queue than without.",
    cause="If the application has a quorum queue, Celery publishes a delayed task to `celery_delayed_27` with the delay"
    " and the key of the *queue*. An exchange or key of the call is lost, and without `exchange_type` Celery "
    "raises KeyError. Tasks for direct exchanges aren't delayed this way.",
    failing="""
work = Exchange("work", "topic")
app.conf.task_queues = [
    Queue("celery", work, "any", queue_arguments={"x-queue-type": "quorum"}),
    Queue("log", work, "log", queue_arguments={"x-queue-type": "quorum"}),
]

@app.task(exchange="work", routing_key="log")
def log(): ...
""",
    fixed="""
work = Exchange("work", "topic")
app.conf.task_queues = [
    Queue("celery", work, "any", queue_arguments={"x-queue-type": "quorum"}),
    Queue("log", work, "log", queue_arguments={"x-queue-type": "quorum"}),
]

@app.task(queue="log")
def log(): ...
""",
    source="https://github.com/celery/celery/issues/10293",
)
def rerouted(facts: Facts) -> Iterator[Found]:
    known = {sent.task for sent, _ in _waiting(facts)}
    for sent in facts.app.publications():
        later = facts.app.delayed.get(sent.task)
        if sent.where or later is None or (later.queues == sent.queues and later.publication is not None):
            continue
        yield _changed(facts, sent, later, Severity.ERROR if sent.task in known else Severity.WARNING)
    for sent in facts.app.sent:
        if sent.where and sent.publication is None and "countdown" in sent.call:
            yield Found(
                (sent.task,),
                f"with countdown={sent.call['countdown']!r} {sent.refusal}",
                "countdown=1 or more, and `queue` instead of `exchange` and `routing_key`",
                sent.where,
                Severity.ERROR,
            )


def _changed(facts: Facts, sent: Sent, later: Sent, severity: Severity) -> Found:
    if sent.queues:
        fix = f'queue="{sent.queues[0]}", without `exchange` and `routing_key`'
    else:
        fix = (
            f"no countdown on it: `{sent.published.exchange}` is not of this application, and only its own queues delay"
        )
    where = facts.app.tasks[sent.task].where
    if later.publication is None:
        return Found((sent.task,), f"with a countdown {later.refusal}", fix, where, severity)
    text = (
        f"with a countdown it is {published(later)} and reaches {all_of(later.queues or ())}; without one it reaches "
        f"{all_of(sent.queues or ())}"
    )
    return Found((sent.task, *(later.queues or ())), text, fix, where, severity)

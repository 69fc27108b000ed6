"""Delivered, and not as people expect: timeouts, delivery limits, Broadcast, lost headers: WB302 to WB305."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kombu.common import Broadcast

from waybill.celery_app.declared import is_random
from waybill.celery_app.names import is_delayed
from waybill.celery_app.publication import message_of
from waybill.check.facts import Facts
from waybill.check.finding import Found, Severity, rule
from waybill.check.phrases import all_of
from waybill.topology import Queue

CONSUMER_TIMEOUT = 1800.0
"""Seconds that RabbitMQ waits for an acknowledgement, unless it is told otherwise."""

QUORUM_ONLY_FROM = (4, 3)
"""The version of RabbitMQ since which only quorum queues have a consumer timeout."""

DELIVERY_LIMIT = 20
"""How often a quorum queue delivers a message again, unless it is told otherwise; since RabbitMQ 4.0."""


@rule(
    "WB302",
    "A task runs or waits longer than the consumer timeout",
    Severity.WARNING,
    symptom="After half an hour the worker loses its connection, and the task runs again while its first run goes on.",
    cause="RabbitMQ waits for an acknowledgement as long as consumer_timeout (30 minutes). Then it closes the channel; "
    "from 4.3 on, only quorum queues have the timeout, and the consumer is cancelled. With late acks, a task "
    "holds its message while it runs; with a countdown, also while it waits.",
    failing="""
@app.task(acks_late=True, time_limit=7200, reject_on_worker_lost=True)
def train(): ...
""",
    fixed="""
@app.task(acks_late=True, time_limit=1200, reject_on_worker_lost=True)
def train(): ...
""",
    source="https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout",
)
def timed_out(facts: Facts) -> Iterator[Found]:
    for sent in facts.app.publications():
        task = facts.app.tasks.get(sent.task)
        held, why = float(sent.call.get("countdown") or 0), "countdown"
        if task is not None and task.acks_late and task.time_limit and task.time_limit > held:
            held, why = task.time_limit, "time_limit"
        for name in sent.queues or ():
            queue = facts.app.router.queues[name]
            limit = _timeout(facts, queue)
            is_native = why == "countdown" and is_delayed(sent.published.exchange)
            if limit is not None and held > limit and not is_native:
                yield Found(
                    (sent.task, name),
                    f"{why}={held:g} s and `{name}` waits {limit:g} s for an acknowledgement: then the worker loses "
                    "it, and it runs again",
                    f"{why}={limit * 0.9:g}, or consumer_timeout = {int(held * 1100)} in rabbitmq.conf",
                    sent.where,
                )


def _timeout(facts: Facts, queue: Queue) -> float | None:
    """Seconds that this queue's consumers have; None without a limit."""
    if facts.version is not None and facts.version >= QUORUM_ONLY_FROM and queue.type != "quorum":
        return None
    milliseconds = queue.setting("consumer-timeout")
    return milliseconds / 1000 if isinstance(milliseconds, int) else CONSUMER_TIMEOUT


@rule(
    "WB303",
    "A quorum queue drops a task after 20 deliveries",
    Severity.NOTE,
    symptom="A task that kills its worker, or is rejected back into the queue, disappears after some deliveries.",
    cause="Quorum queues have a delivery limit of 20 unless it is set. Without a dead-letter exchange, the message is "
    "dropped.",
    failing="""
app.conf.task_queues = [Queue("celery", queue_arguments={"x-queue-type": "quorum"})]

@app.task(acks_late=True, reject_on_worker_lost=True)
def import_file(): ...
""",
    fixed="""
app.conf.task_queues = [
    Queue("celery", queue_arguments={"x-queue-type": "quorum", "x-dead-letter-exchange": "dead"}),
    Queue("dead_letters", Exchange("dead", "fanout"), "any"),
]

@app.task(acks_late=True, reject_on_worker_lost=True)
def import_file(): ...
""",
    source="https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling",
)
def limited(facts: Facts) -> Iterator[Found]:
    again: dict[str, list[str]] = {}
    for sent in facts.app.publications():
        task = facts.app.tasks.get(sent.task)
        if task is not None and task.acks_late and task.reject_on_worker_lost:
            for name in sent.queues or ():
                again.setdefault(name, []).append(sent.task)
    for name, tasks in again.items():
        queue = facts.app.router.queues[name]
        given = queue.setting("delivery-limit")
        limit = DELIVERY_LIMIT if given is None else given
        if queue.type == "quorum" and not queue.dead_letter_exchange and limit != -1:
            yield Found(
                (name, *sorted(set(tasks))),
                f"a task that loses its worker goes back to `{name}`, {limit} times, and is then dropped: "
                f"{all_of(tasks[:3])}",
                f'Queue("{name}", queue_arguments={{"x-queue-type": "quorum", "x-dead-letter-exchange": "..."}})',
            )


@rule(
    "WB304",
    "A Broadcast with a queue name is one shared queue",
    Severity.WARNING,
    symptom="Only one worker receives what all should receive.",
    cause="`Broadcast(queue=...)` gives all workers the same queue, and they compete for its messages. Each worker has "
    "its own queue only without the name, or with `unique=True`.",
    failing="""
app.conf.task_queues = [Queue("celery"), Broadcast("everyone", queue="everyone")]
""",
    fixed="""
app.conf.task_queues = [Queue("celery"), Broadcast("everyone")]
""",
    source="https://github.com/celery/celery/issues/3763",
)
def shared_broadcast(facts: Facts) -> Iterator[Found]:
    for queue in facts.app.declared.values():
        if isinstance(queue, Broadcast) and not is_random(queue.name):
            consumers = len(facts.fleet.consumers(queue.name, queue.alias)) if facts.fleet else 0
            among = f"{consumers} workers compete" if consumers > 1 else "workers compete"
            yield Found(
                (queue.name,),
                f"the Broadcast `{queue.alias}` is one queue, `{queue.name}`, for which {among}: each message "
                "goes to one",
                f'Broadcast("{queue.alias}"), or unique=True',
            )


@rule(
    "WB305",
    "A task is routed by headers that a chain doesn't pass on",
    Severity.WARNING,
    symptom="The first task of a chain arrives, the second vanishes.",
    cause="Headers belong to one publication. A chain's next task, a callback and a call from elsewhere don't have "
    "them, and an exchange without an alternate exchange drops a message that matches no binding.",
    failing="""
app.conf.task_queues = [
    Queue("celery"),
    Queue("pdf", Exchange("documents", "headers"), "any", binding_arguments={"format": "pdf", "x-match": "all"}),
]

@app.task(exchange="documents", routing_key="any")
def convert(): ...

def now():
    convert.apply_async(headers={"format": "pdf"})
""",
    fixed="""
documents = Exchange("documents", "headers", arguments={"alternate-exchange": "unfiled"})
app.conf.task_queues = [
    Queue("celery"),
    Queue("pdf", documents, "any", binding_arguments={"format": "pdf", "x-match": "all"}),
    Queue("unfiled", Exchange("unfiled", "fanout"), "any"),
]

@app.task(exchange="documents", routing_key="any")
def convert(): ...

def now():
    convert.apply_async(headers={"format": "pdf"})
""",
    source="https://www.rabbitmq.com/docs/exchanges#headers",
)
def lost_headers(facts: Facts) -> Iterator[Found]:
    for sent in facts.app.publications():
        given = dict(sent.call.get("headers") or {})
        kind = facts.app.router.exchanges.get(sent.published.exchange)
        if not given or not sent.queues or kind is None or kind.type != "headers":
            continue
        message = message_of(sent.published)
        without = {name: value for name, value in sent.published.headers.items() if name not in given}
        if not facts.app.router.route(replace(message, headers=without)):
            yield Found(
                (sent.task, kind.name),
                f"with {given} it reaches {all_of(sent.queues)}; published by a chain or a callback it has no such "
                "headers, and reaches no queue",
                f'Exchange("{kind.name}", "headers", arguments={{"alternate-exchange": "unfiled"}})',
                sent.where,
            )

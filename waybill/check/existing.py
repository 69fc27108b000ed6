"""What exists on the broker, and how it differs from the declarations: WB114, WB123, WB201, WB202, WB212, WB214.

RabbitMQ's comparison, with its sentences, is in `waybill.topology.declarations`.
"""

from __future__ import annotations

from collections.abc import Iterator

from waybill.celery_app.declared import stable
from waybill.celery_app.names import BROADCAST_PREFIX
from waybill.check.declaring import untyped
from waybill.check.facts import Facts
from waybill.check.finding import Found, Severity, rule
from waybill.check.phrases import all_of
from waybill.errors import TopologyError
from waybill.rabbitmq.stale import stale_bindings
from waybill.rabbitmq.state import LiveFacts
from waybill.topology import PREDECLARED, Queue
from waybill.topology.text import arguments_label, literal

PRIORITY = "x-max-priority"


@rule(
    "WB114",
    "Stale binding: exists on the broker, not in the application",
    Severity.WARNING,
    needs=("live",),
    symptom="A queue still gets tasks by a key that was removed from the code.",
    cause="Declaring a queue adds bindings and never removes any. After a key has changed, the old binding stays.",
    failing="""
news = Exchange("news", "topic")
app.conf.task_queues = [Queue("celery"), Queue("usa", news, "usa.#")]
lives = [Queue("usa", [binding(news, "usa.#"), binding(news, "texas.#")])]
""",
    fixed="""
news = Exchange("news", "topic")
app.conf.task_queues = [Queue("celery"), Queue("usa", news, "usa.#")]
lives = [Queue("usa", news, "usa.#")]
""",
    source="https://github.com/celery/kombu/issues/831",
)
def undeclared_binding(facts: Facts) -> Iterator[Found]:
    app, live = facts.app, _live(facts)
    # A worker declares no queue of `no_declare`, and a `Broadcast` queue under a name of its own.
    shared = {queue.name for queue in app.declared.values() if not queue.no_declare and stable(queue) is queue}
    queues = [queue for queue in app.queues if queue.name in shared]
    for one in (stale.binding for stale in stale_bindings(app.exchanges, queues, app.bindings, live.bindings)):
        is_queue = one.destination_type == "queue"
        ends = (one.destination, one.source, one.binding_key)
        arguments = f", arguments={literal(one.arguments)}" if one.arguments else ""
        yield Found(
            ends,
            f"{'' if is_queue else 'the exchange '}`{one.destination}` is bound to `{one.source}` with "
            f"`{one.binding_key}`{arguments_label(one.arguments)}, and the application doesn't declare this binding",
            f"channel.{'queue' if is_queue else 'exchange'}_unbind({', '.join(map(literal, ends))}{arguments})",
        )


@rule(
    "WB201",
    "x-max-priority differs from the queue on the broker",
    Severity.ERROR,
    needs=("live",),
    symptom="The worker fails at startup: 406 PRECONDITION_FAILED, inequivalent arg 'x-max-priority'.",
    cause="The argument is fixed when the queue is created, and no policy can set it.",
    failing="""
app.conf.task_queues = [Queue("celery", queue_arguments={"x-max-priority": 10})]
lives = [Queue("celery", Exchange("celery"), "celery")]
""",
    fixed="""
app.conf.task_queues = [Queue("celery", queue_arguments={"x-max-priority": 10})]
lives = [Queue("celery", Exchange("celery"), "celery", queue_arguments={"x-max-priority": 10})]
""",
    source="https://github.com/celery/kombu/issues/824",
)
def other_priority(facts: Facts) -> Iterator[Found]:
    for queue, error in _unequal_queues(facts):
        if f"'{PRIORITY}'" in error.text:
            yield Found(
                (queue.name, PRIORITY),
                f"{error.reply_code} {error.text}",
                f'{_match(facts, queue, PRIORITY)}; or Queue("{queue.name}.v2", ...), drain `{queue.name}`, delete it',
            )


@rule(
    "WB202",
    "A queue differs from the queue on the broker",
    Severity.ERROR,
    needs=("live",),
    symptom="The worker fails at startup: 406 PRECONDITION_FAILED, inequivalent arg.",
    cause="Type, durability and arguments of a queue are fixed when it is created. A queue without `x-queue-type` gets "
    "the vhost's default type.",
    failing="""
app.conf.task_queues = [Queue("celery", queue_arguments={"x-queue-type": "quorum"})]
lives = [Queue("celery", Exchange("celery"), "celery")]
""",
    fixed="""
app.conf.task_queues = [Queue("celery", queue_arguments={"x-queue-type": "quorum"})]
lives = [Queue("celery", Exchange("celery"), "celery", queue_arguments={"x-queue-type": "quorum"})]
""",
    source="https://www.rabbitmq.com/docs/queues#property-equivalence",
)
def other_queue(facts: Facts) -> Iterator[Found]:
    for queue, error in _unequal_queues(facts):
        if f"'{PRIORITY}'" not in error.text:
            waiting = _live(facts).messages.get(queue.name, 0)
            yield Found(
                (queue.name,),
                f"{error.reply_code} {error.text}; {waiting} messages wait in it",
                f'declare it as it is on the broker, or Queue("{queue.name}.v2", ...), drain `{queue.name}`, delete it',
            )


@rule(
    "WB214",
    "An exchange differs from the exchange on the broker",
    Severity.ERROR,
    needs=("live",),
    symptom="The worker fails at startup: 406 PRECONDITION_FAILED, inequivalent arg 'type'.",
    cause="Type, durability and alternate exchange are fixed when an exchange is created.",
    failing="""
app.conf.task_queues = [Queue("celery"), Queue("usa", Exchange("news", "topic"), "usa")]
lives = [Queue("usa", Exchange("news", "direct"), "usa")]
""",
    fixed="""
app.conf.task_queues = [Queue("celery"), Queue("usa", Exchange("news", "topic"), "usa")]
lives = [Queue("usa", Exchange("news", "topic"), "usa")]
""",
    source="https://www.rabbitmq.com/docs/exchanges",
)
def other_exchange(facts: Facts) -> Iterator[Found]:
    live = _live(facts)
    held = live.declarations()
    for exchange in facts.app.router.exchanges.values():
        lives = live.exchanges.get(exchange.name)
        if lives is not None and exchange.name not in PREDECLARED:
            error = held.refusal(exchange, is_restored=True)
            if error is not None:
                yield Found(
                    (exchange.name,),
                    f"{error.reply_code} {error.text}",
                    f'Exchange("{exchange.name}", "{lives.type}"), as on the broker, or another name',
                )


@rule(
    "WB212",
    "The broker doesn't know an exchange's type",
    Severity.ERROR,
    needs=("live",),
    symptom="The declaration fails: unknown exchange type.",
    cause="Exchange types that begin with `x-` come with plugins. The plugin must be enabled on the broker.",
    failing="""
delay = Exchange("delay", "x-delayed-message", arguments={"x-delayed-type": "direct"})
app.conf.task_queues = [Queue("celery"), Queue("later", delay, "later")]
lives = []
""",
    fixed="""
app.conf.task_queues = [Queue("celery"), Queue("later", Exchange("delay", "direct"), "later")]
lives = []
""",
    source="https://www.rabbitmq.com/docs/plugins",
)
def unknown_type(facts: Facts) -> Iterator[Found]:
    known = _live(facts).exchange_types
    for exchange in (*facts.app.router.exchanges.values(), *untyped(facts)):
        if exchange.type not in known:
            yield Found(
                (exchange.name, exchange.type),
                f"`{exchange.name}` is of type `{exchange.type}`; this broker knows {all_of(sorted(known))}",
                "rabbitmq-plugins enable the plugin that brings it, or another type",
            )


@rule(
    "WB123",
    "Messages wait in a queue that nobody consumes",
    Severity.WARNING,
    needs=("live",),
    symptom="Tasks are queued and never run.",
    cause="The workers consume other queues, or no worker is running.",
    failing="""
app.conf.task_queues = [Queue("celery")]
lives = [Queue("celery", Exchange("celery"), "celery")]
waiting = {"celery": 3}
""",
    fixed="""
app.conf.task_queues = [Queue("celery")]
lives = [Queue("celery", Exchange("celery"), "celery")]
""",
    source="https://www.rabbitmq.com/docs/consumers",
)
def unconsumed(facts: Facts) -> Iterator[Found]:
    live = _live(facts)
    consumed = {consumer.queue for consumer in live.consumers}
    for name in facts.app.declared:
        if live.messages.get(name) and name not in consumed:
            yield Found(
                (name,),
                f"{live.messages[name]} messages wait in it and it has no consumer",
                f"celery -A proj worker -Q {name}",
            )


def _unequal_queues(facts: Facts) -> Iterator[tuple[Queue, TopologyError]]:
    """The queues whose declaration RabbitMQ would refuse since another of that name lives."""
    live = _live(facts)
    held = live.declarations()
    for queue in facts.app.router.queues.values():
        if queue.name not in live.queues or queue.name.startswith(BROADCAST_PREFIX):
            continue
        error = held.refusal(queue, is_restored=True)
        if error is not None:
            yield queue, error


def _match(facts: Facts, queue: Queue, argument: str) -> str:
    value = _live(facts).queues[queue.name].arguments.get(argument)
    return f"no {argument}" if value is None else f'queue_arguments={{"{argument}": {value!r}}}'


def _live(facts: Facts) -> LiveFacts:
    assert facts.live is not None
    return facts.live

"""Declarations that RabbitMQ refuses, whatever exists: WB203 to WB205, WB207, WB208, WB213, WB216."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from waybill.celery_app.names import BROADCAST_PREFIX, is_delayed
from waybill.check.facts import Facts
from waybill.check.finding import Found, Severity, rule
from waybill.check.phrases import all_of, nearest
from waybill.topology import Binding, Exchange, Queue
from waybill.topology.declarations import DELAYED, EXCHANGE_TYPES, PLUGIN_PREFIX

SHORTSTR_CODE = 501


@rule(
    "WB203",
    "One exchange name is declared with two types",
    Severity.ERROR,
    symptom="The worker fails at startup: 406 PRECONDITION_FAILED, inequivalent arg 'type'.",
    cause="An exchange is identified by its name, and every declaration of it must be equal.",
    failing="""
app.conf.task_queues = [
    Queue("celery"),
    Queue("usa", Exchange("news", "topic"), "usa.#"),
    Queue("log", Exchange("news", "fanout"), "any"),
]
""",
    fixed="""
app.conf.task_queues = [
    Queue("celery"),
    Queue("usa", Exchange("news", "topic"), "usa.#"),
    Queue("log", Exchange("news", "topic"), "#"),
]
""",
    source="https://www.rabbitmq.com/docs/channels#error-handling",
)
def two_types(facts: Facts) -> Iterator[Found]:
    for item, error in facts.app.refused:
        if not isinstance(item, Exchange) or item.type not in EXCHANGE_TYPES:
            continue
        first = facts.app.router.exchanges.get(item.name)
        if first is not None:
            yield Found(
                (item.name,),
                f"`{item.name}` is declared as {first.type} and as {item.type}: {error.reply_code} {error.text}",
                f'{item.name} = Exchange("{item.name}", "{first.type}"), once, for all its queues',
            )


@rule(
    "WB216",
    "An exchange's type is unknown",
    Severity.ERROR,
    symptom="The declaration fails with 406, unknown exchange type, or Waybill can't tell where messages go.",
    cause="RabbitMQ refuses a type that it doesn't know. A type that begins with `x-` may belong to a plugin. Waybill "
    "can't tell whether the broker has that plugin, nor where the exchange sends a message; that is a note.",
    failing="""
app.conf.task_queues = [Queue("celery"), Queue("usa", Exchange("news", "topci"), "usa.#")]
""",
    fixed="""
app.conf.task_queues = [Queue("celery"), Queue("usa", Exchange("news", "topic"), "usa.#")]
""",
    source="https://www.rabbitmq.com/docs/exchanges#types",
)
def unknown_type(facts: Facts) -> Iterator[Found]:
    known = facts.live.exchange_types if facts.live else None
    for exchange in (*facts.app.router.exchanges.values(), *untyped(facts)):
        name, kind = exchange.name, exchange.type
        if kind in EXCHANGE_TYPES or (known is not None and kind not in known):
            continue  # the broker's own word on it is another rule
        if kind.startswith(PLUGIN_PREFIX) or known:
            whose = "which this broker knows and Waybill doesn't" if known else "which may be a plugin's"
            yield Found(
                (name, kind),
                f"`{name}` is of type `{kind}`, {whose}: where a message goes from there can't be told here",
                "nothing, where the plugin is enabled" + ("" if known else "; --management URL asks the broker"),
                severity=Severity.NOTE,
            )
        else:
            near = nearest(kind, EXCHANGE_TYPES)
            hint = f"; did you mean `{near}`?" if near else ""
            yield Found(
                (name, kind),
                f"RabbitMQ refuses `{name}`: 406 unknown exchange type '{kind}'{hint}",
                f'Exchange("{name}", "{near or "topic"}")',
            )


def untyped(facts: Facts) -> Iterator[Exchange]:
    """The exchanges that RabbitMQ refuses for their type."""
    for item, _ in facts.app.refused:
        if isinstance(item, Exchange) and item.type not in EXCHANGE_TYPES:
            yield item


@rule(
    "WB204",
    "RabbitMQ refuses a queue or an exchange because of its arguments",
    Severity.ERROR,
    symptom="The worker, or the first publisher, fails with 406 PRECONDITION_FAILED.",
    cause="Quorum queues refuse x-max-priority (`task_queue_max_priority` sets it on every queue), auto_delete, "
    "exclusive and transient. Numbers must be numbers, and a priority is at most 255. Exchange types of plugins "
    "have rules of their own: `x-delayed-type`, `hash-header`.",
    failing="""
app.conf.task_queue_max_priority = 10
app.conf.task_queues = [Queue("celery", queue_arguments={"x-queue-type": "quorum"})]
""",
    fixed="""
app.conf.task_queues = [Queue("celery", queue_arguments={"x-queue-type": "quorum"})]
""",
    source="https://www.rabbitmq.com/docs/quorum-queues#feature-comparison",
)
def refused_queue(facts: Facts) -> Iterator[Found]:
    for item, error in facts.app.refused:
        if isinstance(item, Queue) and error.reply_code != SHORTSTR_CODE:
            yield Found((item.name,), f"RabbitMQ refuses it: {error.reply_code} {error.text}", _way_out(facts, item))
        elif isinstance(item, Exchange) and item.type in EXCHANGE_TYPES and item.name not in facts.app.router.exchanges:
            inner = ', arguments={"x-delayed-type": "direct"}' if item.type == DELAYED else ", ..."
            yield Found(
                (item.name,),
                f"RabbitMQ refuses it: {error.reply_code} {error.text}",
                f'Exchange("{item.name}", "{item.type}"{inner})',
            )


def _way_out(facts: Facts, queue: Queue) -> str:
    if queue.type == "quorum" and "x-max-priority" in queue.arguments:
        setting = facts.app.conf.task_queue_max_priority
        return "app.conf.task_queue_max_priority = None" if setting else "quorum queues have 32 priorities without it"
    if queue.type == "quorum":
        return f'Queue("{queue.name}", durable=True, auto_delete=False, exclusive=False, ...)'
    return "the value and type that the sentence asks for"


@rule(
    "WB205",
    "A queue is neither durable nor exclusive",
    Severity.WARNING,
    symptom="541 INTERNAL_ERROR when the queue is declared, or a queue that is gone after a restart of the broker.",
    cause="RabbitMQ has deprecated transient queues that several connections share, and a broker may already refuse "
    "them.",
    failing="""
app.conf.task_queues = [Queue("celery"), Queue("scratch", durable=False)]
""",
    fixed="""
app.conf.task_queues = [Queue("celery"), Queue("scratch", durable=True, expires=3600)]
""",
    source="https://github.com/celery/celery/issues/10290",
)
def transient(facts: Facts) -> Iterator[Found]:
    denied = facts.live is not None and "transient_nonexcl_queues" in facts.live.denied
    for queue in facts.app.queues:
        if not queue.durable and not queue.exclusive and not queue.name.startswith(BROADCAST_PREFIX):
            what = (
                "this broker refuses it with 541"
                if denied
                else "RabbitMQ has deprecated this and may refuse it with 541"
            )
            yield Found(
                (queue.name,),
                f"durable=False and not exclusive: {what}",
                f'Queue("{queue.name}", durable=True, expires=3600)',
                severity=Severity.ERROR if denied else None,
            )


@rule(
    "WB207",
    "RabbitMQ refuses a binding",
    Severity.ERROR,
    symptom="The worker fails at startup: 406 PRECONDITION_FAILED at queue.bind.",
    cause="RabbitMQ 4.3.5 and later refuse a topic binding key with more than two `#`. All versions refuse a headers "
    "binding with an unknown x-match and a consistent-hash weight that is not a number.",
    failing="""
app.conf.task_queues = [Queue("celery"), Queue("all", Exchange("work", "topic"), "#.a.#.b.#")]
""",
    fixed="""
app.conf.task_queues = [Queue("celery"), Queue("all", Exchange("work", "topic"), "#.a.b.#")]
""",
    source="https://www.rabbitmq.com/docs/exchanges#topic",
)
def refused_binding(facts: Facts) -> Iterator[Found]:
    refused_ends = {item.name for item, _ in facts.app.refused if not isinstance(item, Binding)}
    for item, error in facts.app.refused:
        if isinstance(item, Binding) and error.reply_code == 406 and not {item.source, item.destination} & refused_ends:
            yield Found(
                (item.destination, item.source, item.binding_key),
                f"binding `{item.destination}` to `{item.source}` is refused: {error.reply_code} {error.text}",
                "a binding key or arguments that the sentence allows",
            )


@rule(
    "WB208",
    "A name or key is too long for AMQP",
    Severity.ERROR,
    symptom="The client raises an error when it declares or publishes: the text doesn't fit.",
    cause="Names and keys are short strings: at most 255 bytes of UTF-8. Native delayed delivery puts 56 bytes in front"
    " of a key, which leaves 199.",
    failing="""
app.conf.task_queues = [Queue("celery"), Queue("long", Exchange("work", "topic"), "k" * 256)]
""",
    fixed="""
app.conf.task_queues = [Queue("celery"), Queue("long", Exchange("work", "topic"), "k" * 199)]
""",
    source="https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf",
)
def too_long(facts: Facts) -> Iterator[Found]:
    for item, error in facts.app.refused:
        if error.reply_code == SHORTSTR_CODE:
            name = item.destination if isinstance(item, Binding) else item.name
            yield Found((name[:60],), error.text, "a shorter one")
    if facts.app.delayed:
        for binding in facts.app.bindings:
            size = len(binding.binding_key.encode("utf-8", "surrogatepass"))
            if (
                MAX_DELAYED < size <= 255
                and not is_delayed(binding.source)
                and not binding.binding_key.startswith("#.")
            ):
                yield Found(
                    (binding.destination, binding.binding_key[:20] + "..."),
                    f"its key has {size} bytes; with a countdown Celery puts 56 more in front, and 255 is the most",
                    "a key of 199 bytes at most",
                    severity=Severity.WARNING,
                )


MAX_DELAYED = 199
"""Bytes of a key that can still be delayed natively: 255 without 28 digits and as many dots."""


@rule(
    "WB213",
    "`task_queues` has a queue twice, and only the last one counts",
    Severity.WARNING,
    symptom="The code has a binding or an argument that is missing on the broker.",
    cause="Celery keeps its queues by name: of two declarations with one name, the first is dropped silently.",
    failing="""
news = Exchange("news", "topic")
app.conf.task_queues = [Queue("celery"), Queue("usa", news, "usa.#"), Queue("usa", news, "texas.#")]
""",
    fixed="""
from kombu import binding
news = Exchange("news", "topic")
app.conf.task_queues = [Queue("celery"), Queue("usa", [binding(news, "usa.#"), binding(news, "texas.#")])]
""",
    source="https://docs.celeryq.dev/en/stable/userguide/routing.html#manual-routing",
)
def twice(facts: Facts) -> Iterator[Found]:
    named: dict[str, list[Any]] = defaultdict(list)
    for queue in facts.app.listed:
        named[queue.name].append(queue)
    for name, queues in named.items():
        keys = [queue.routing_key or "" for queue in queues]
        if len({_declaration(facts, queue) for queue in queues}) > 1:  # of equal ones it doesn't matter which counts
            yield Found(
                (name,),
                f"declared {len(keys)} times, with the keys {all_of(keys)}: only the last counts, `{keys[-1]}`",
                f'Queue("{name}", [binding(exchange, "{keys[0]}"), binding(exchange, "{keys[-1]}")])',
            )


def _declaration(facts: Facts, queue: Any) -> str:
    """What Celery declares of a queue, as text: without an exchange of its own it gets the default one."""
    own = queue.exchange.name if queue.exchange else ""
    exchange = own or facts.app.conf.task_default_exchange or facts.app.conf.task_default_queue
    flags = (queue.durable, queue.exclusive, queue.auto_delete, queue.max_priority, queue.message_ttl, queue.expires)
    return repr((exchange, queue.routing_key, sorted(map(repr, queue.bindings or ())), queue.queue_arguments, flags))

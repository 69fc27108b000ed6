"""Settings for tests that prove less than they seem to: WB401 to WB403."""

from __future__ import annotations

from collections.abc import Iterator

from waybill.celery_app.names import is_delayed
from waybill.check.facts import Facts
from waybill.check.finding import Found, Severity, rule
from waybill.check.phrases import all_of
from waybill.topology import PREDECLARED

RABBITMQ = ("amqp", "pyamqp", "amqps", "librabbitmq")
MEMORY = "memory"


def is_rabbitmq(transport: str) -> bool:
    """Whether Kombu's transport of that name speaks AMQP."""
    return transport in RABBITMQ or transport.startswith("kombu.transport.pyamqp")


@rule(
    "WB401",
    "memory:// doesn't route as RabbitMQ does",
    Severity.WARNING,
    any_broker=True,
    symptom="Tests on `memory://` pass and the same application loses tasks on RabbitMQ, or the other way round.",
    cause="Kombu's memory transport has a router of its own. Headers exchanges raise KeyError, `img.#` doesn't match "
    "`img`, priorities, dead letters and alternate exchanges do nothing, and unequal declarations are accepted.",
    failing="""
app.conf.broker_url = "memory://"
app.conf.task_queues = [Queue("celery"), Queue("usa", Exchange("news", "topic"), "usa.#")]
""",
    fixed="""
app.conf.broker_url = "amqp://"
app.conf.task_queues = [Queue("celery"), Queue("usa", Exchange("news", "topic"), "usa.#")]
""",
    source="https://docs.celeryq.dev/projects/kombu/en/stable/reference/kombu.transport.memory.html",
)
def memory_transport(facts: Facts) -> Iterator[Found]:
    if facts.app.transport != MEMORY:
        return
    differing = list(_differing(facts))
    if differing:
        yield Found(
            ("broker_url",),
            f"the broker is memory://, which routes differently: {'; '.join(differing)}",
            "with waybill.broker.Broker() as broker: app.conf.broker_url = broker.url",
        )


def _differing(facts: Facts) -> Iterator[str]:
    """What the application uses and the memory transport does otherwise, or not at all."""
    exchanges = [x for x in facts.app.exchanges if x.name not in PREDECLARED and not is_delayed(x.name)]
    headers = sorted({x.name for x in exchanges if x.type == "headers"})
    if headers:
        yield f"headers exchanges ({all_of(headers)}) raise KeyError"
    hashed = sorted({b.binding_key for b in facts.app.bindings if b.binding_key.endswith(".#")})
    if hashed:
        yield f"`.#` doesn't match the key without a further word in {all_of(hashed)}"
    if any(queue.max_priority is not None for queue in facts.app.queues):
        yield "x-max-priority does nothing"
    if any(queue.dead_letter_exchange for queue in facts.app.queues):
        yield "dead letters go nowhere"
    if any(exchange.alternate for exchange in exchanges):
        yield "alternate exchanges do nothing"


@rule(
    "WB402",
    "With `task_always_eager` nothing is routed",
    Severity.WARNING,
    any_broker=True,
    symptom="Tests pass, and in production the task goes to a queue that nobody consumes.",
    cause="apply_async runs the task immediately and asks no router, exchange, queue or worker.",
    failing="""
app.conf.task_always_eager = True

@app.task(queue="nowhere")
def index(): ...
""",
    fixed="""
@app.task(queue="nowhere")
def index(): ...
""",
    source="https://docs.celeryq.dev/en/stable/userguide/testing.html",
)
def eager(facts: Facts) -> Iterator[Found]:
    if facts.app.conf.task_always_eager:
        yield Found(
            ("task_always_eager",),
            "every call runs its task immediately: queue, exchange, routing_key, priority and countdown are ignored",
            "a worker and the embedded broker in the tests: the pytest plugin's waybill_watch",
        )


@rule(
    "WB403",
    "The broker isn't RabbitMQ",
    Severity.NOTE,
    any_broker=True,
    symptom="Exchanges and priorities mean something else: on Redis, 0 is the highest priority.",
    cause="Other transports imitate AMQP. The rules about routing hold for RabbitMQ.",
    failing="""
app.conf.broker_url = "redis://localhost"
""",
    fixed="""
app.conf.broker_url = "amqp://localhost"
""",
    source="https://docs.celeryq.dev/en/stable/userguide/routing.html#redis-message-priorities",
)
def other_broker(facts: Facts) -> Iterator[Found]:
    if not is_rabbitmq(facts.app.transport) and facts.app.transport != MEMORY:
        yield Found(
            ("broker_url",),
            f"the broker is {facts.app.transport}: only the rules about names, settings and workers are checked",
            f'nothing, if {facts.app.transport} is meant; app.conf.broker_url = "amqp://..." has all rules checked',
        )

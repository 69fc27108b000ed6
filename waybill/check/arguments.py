"""Arguments that RabbitMQ accepts and that do nothing, or lead nowhere: WB209, WB210, WB211, WB215."""

from __future__ import annotations

from collections.abc import Iterator

from waybill.celery_app.names import is_delayed
from waybill.celery_app.publication import message_of
from waybill.check.facts import Facts
from waybill.check.finding import Found, Severity, rule
from waybill.check.phrases import all_of, nearest
from waybill.topology import Exchange, Queue
from waybill.topology.queue_arguments import ARGUMENTS_OF

KNOWN = frozenset(name for names in ARGUMENTS_OF.values() for name in names)


@rule(
    "WB209",
    "A misspelt argument is accepted and does nothing",
    Severity.WARNING,
    symptom="Priorities, limits or dead letters have no effect, and nothing complains.",
    cause="RabbitMQ ignores an argument of a queue or an exchange that it doesn't know.",
    failing="""
app.conf.task_queues = [Queue("celery", queue_arguments={"x-max-prioritty": 10})]
""",
    fixed="""
app.conf.task_queues = [Queue("celery", queue_arguments={"x-max-priority": 10})]
""",
    source="https://www.rabbitmq.com/docs/queues#optional-arguments",
)
def misspelt(facts: Facts) -> Iterator[Found]:
    named = [(f'Queue("{q.name}"', q.name, q.arguments, KNOWN) for q in facts.app.queues]
    named += [
        (f'Exchange("{x.name}"', x.name, x.arguments, frozenset({"alternate-exchange"})) for x in facts.app.exchanges
    ]
    for made, name, arguments, known in named:
        for argument in arguments:
            near = nearest(argument, known)
            if argument not in KNOWN | {"alternate-exchange"} and near:
                keyword = "queue_arguments" if made.startswith("Queue") else "arguments"
                yield Found(
                    (name, argument),
                    f"`{argument}` is no argument that RabbitMQ knows; it is ignored; did you mean `{near}`?",
                    f'{made}, ..., {keyword}={{"{near}": {arguments[argument]!r}}})',
                )


@rule(
    "WB210",
    "The dead-letter exchange doesn't exist",
    Severity.ERROR,
    symptom="Rejected, expired and overflowing messages vanish.",
    cause="RabbitMQ accepts a queue whose dead-letter exchange doesn't exist, and drops the queue's dead letters.",
    failing="""
app.conf.task_queues = [Queue("celery", queue_arguments={"x-dead-letter-exchange": "dead"})]

@app.task
def index(): ...
""",
    fixed="""
app.conf.task_queues = [
    Queue("celery", queue_arguments={"x-dead-letter-exchange": "dead"}),
    Queue("dead_letters", Exchange("dead", "fanout"), "any"),
]

@app.task
def index(): ...
""",
    source="https://www.rabbitmq.com/docs/dlx",
)
def missing_dead_letters(facts: Facts) -> Iterator[Found]:
    for declared in facts.app.queues:
        queue = facts.app.router.queues.get(declared.name, declared)
        name = queue.dead_letter_exchange
        if not name or is_delayed(queue.name) or facts.is_made_by_none(queue.name):
            continue
        if facts.nobody_declares(name):
            yield Found((queue.name, name), f"its dead letters go to `{name}`, {_UNMADE}: they are dropped", _DECLARE)
        elif _is_missing(facts, name):
            by = _policy(facts, queue, "dead-letter-exchange")
            yield Found(
                (queue.name, name),
                f"its dead letters go to `{name}`{by}, which {_who(facts)}: they are dropped{_hint(facts, name)}",
                f'Queue("{queue.name}_dead", Exchange("{name}", "fanout"), "any") in task_queues, {_DEPLOYED}',
                severity=None if facts.live else Severity.WARNING,
            )


@rule(
    "WB211",
    "The alternate exchange doesn't exist",
    Severity.ERROR,
    symptom="Messages that match no binding vanish, although an alternate exchange is named.",
    cause="RabbitMQ accepts an exchange whose alternate exchange doesn't exist, and routes as if it had none.",
    failing="""
news = Exchange("news", "topic", arguments={"alternate-exchange": "unfiled"})
app.conf.task_queues = [Queue("celery"), Queue("usa", news, "usa.#")]
""",
    fixed="""
news = Exchange("news", "topic", arguments={"alternate-exchange": "unfiled"})
app.conf.task_queues = [
    Queue("celery"), Queue("usa", news, "usa.#"), Queue("unfiled", Exchange("unfiled", "fanout"), "any")
]
""",
    source="https://www.rabbitmq.com/docs/ae",
)
def missing_alternate(facts: Facts) -> Iterator[Found]:
    for exchange in facts.app.router.exchanges.values():
        name = exchange.alternate
        if name and facts.nobody_declares(name):
            what = f"its alternate exchange is `{name}`, {_UNMADE}: a message that matches no binding is dropped"
            yield Found((exchange.name, name), what, _DECLARE)
        elif name and _is_missing(facts, name):
            yield Found(
                (exchange.name, name),
                f"its alternate exchange `{name}`{_policy(facts, exchange, 'alternate-exchange')} is one that "
                f"{_who(facts)}: a message that matches no binding is dropped"
                f"{_hint(facts, name)}",
                f'Queue("{name}", Exchange("{name}", "fanout"), "any") in task_queues, {_DEPLOYED}',
                severity=None if facts.live else Severity.WARNING,
            )


def _policy(facts: Facts, item: Exchange | Queue, setting: str) -> str:
    """That a policy says so, and no argument, for a sentence."""
    argument = setting if isinstance(item, Exchange) else f"x-{setting}"
    name = "" if facts.live is None or argument in item.arguments else facts.live.policies.who_sets(setting, item)
    return f" by the policy `{name}`" if name else ""


_UNMADE = "which nobody declares, because no worker of the fleet consumes one of its queues"
_DEPLOYED = "and celery -A proj waybill declare before the workers start, since a worker declares only what it consumes"
_DECLARE = "celery -A proj waybill declare before the workers start, or a worker that consumes its queue"


def _is_missing(facts: Facts, name: str) -> bool:
    return name not in facts.app.router.exchanges and not (facts.live and name in facts.live.exchanges)


def _who(facts: Facts) -> str:
    return "neither the application declares nor the broker has" if facts.live else "the application doesn't declare"


def _hint(facts: Facts, name: str) -> str:
    near = nearest(name, filter(None, facts.app.router.exchanges))
    return f"; did you mean `{near}`?" if near else ""


@rule(
    "WB215",
    "Dead letters reach no queue",
    Severity.WARNING,
    symptom="Rejected, expired and overflowing messages vanish, although the dead-letter exchange exists.",
    cause="A dead letter keeps its routing key unless `x-dead-letter-routing-key` replaces it, and no binding of the "
    "dead-letter exchange matches that key.",
    failing="""
app.conf.task_queues = [
    Queue("celery", queue_arguments={"x-dead-letter-exchange": "dead"}),
    Queue("dead_letters", Exchange("dead", "direct"), "dead"),
]

@app.task
def index(): ...
""",
    fixed="""
app.conf.task_queues = [
    Queue("celery", queue_arguments={"x-dead-letter-exchange": "dead", "x-dead-letter-routing-key": "dead"}),
    Queue("dead_letters", Exchange("dead", "direct"), "dead"),
]

@app.task
def index(): ...
""",
    source="https://www.rabbitmq.com/docs/dlx#routing",
)
def lost_dead_letters(facts: Facts) -> Iterator[Found]:
    seen: set[tuple[str, str]] = set()
    for sent in facts.app.publications():
        for name in sent.queues or ():
            queue = facts.app.router.queues[name]
            dead = queue.dead_letter_exchange
            key = sent.published.routing_key
            if dead is None or dead not in facts.app.router.exchanges or (name, key) in seen:
                continue
            seen.add((name, key))
            letter = facts.app.router.dead_letters(name, message_of(sent.published), "rejected")
            if not letter.queues:
                bound = [b.binding_key for b in facts.app.router.tried_at(dead)]
                kept = queue.dead_letter_routing_key or key
                yield Found(
                    (name, dead, sent.task),
                    f"its dead letters go to `{dead}` with the key `{kept}`, and the bindings there: {all_of(bound)}; "
                    "they are dropped",
                    f'queue_arguments={{"x-dead-letter-routing-key": "{bound[0] if bound else "..."}"}}',
                )

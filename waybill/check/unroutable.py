"""In no queue: missing bindings, missing exchanges, failing publications: WB105, WB110, WB120 to WB122."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from celery.utils.nodenames import WORKER_DIRECT_EXCHANGE

from waybill.celery_app.options import Option
from waybill.celery_app.publication import message_of
from waybill.check.facts import Facts, Sent
from waybill.check.finding import Found, Severity, rule
from waybill.check.phrases import all_of, nearest, published, said, with_confirms
from waybill.routing.trace import Visit
from waybill.topology import Exchange


@rule(
    "WB105",
    "No binding takes the task",
    Severity.ERROR,
    any_broker=True,
    symptom="apply_async returns an id, nothing fails, and the task is in no queue.",
    cause="No binding of the exchange matches the routing key, so RabbitMQ drops the message. RabbitMQ confirms it all "
    "the same; only `mandatory=True` together with confirm_publish raises an error, at the call that lost the "
    "task.",
    failing="""
app.conf.task_queues = [Queue("usa", Exchange("news", "topic"), "usa.#")]
app.conf.task_default_queue = "usa"

@app.task(exchange="news", routing_key="us.weather")
def report(): ...
""",
    fixed="""
app.conf.task_queues = [Queue("usa", Exchange("news", "topic"), "usa.#")]
app.conf.task_default_queue = "usa"

@app.task(exchange="news", routing_key="usa.weather")
def report(): ...
""",
    source="https://www.rabbitmq.com/docs/publishers#unroutable",
)
def unroutable(facts: Facts) -> Iterator[Found]:
    for sent in _lost(facts):
        if _mixed(sent) is None:
            visit = facts.app.trace(sent).root
            near = _nearest_key(sent, visit)
            hint = f"; the nearest binding is `{near}`" if near else ""
            yield Found(
                (sent.task, sent.published.exchange),
                f"{published(sent)}, which matches no binding there (of {len(visit.attempts)}): the message is "
                f"dropped{hint}",
                _fix(visit, near),
                sent.where,
            )


def _lost(facts: Facts) -> Iterator[Sent]:
    """The publications that reach no queue, by what is declared and what lives."""
    lost = [
        sent
        for sent in facts.app.publications()
        if sent.queues == () and not sent.is_choice and not _is_to_a_worker(facts, sent)
    ]
    together = facts.live.with_declared(facts.app.router) if lost and facts.live else None
    for sent in lost:
        if together is None or not together.route(message_of(sent.published)):
            yield sent


def _is_to_a_worker(facts: Facts, sent: Sent) -> bool:
    """Whether it goes to one worker by its node name (`worker_direct`), and there is one, for all that is known."""
    if not facts.app.conf.worker_direct or sent.published.exchange != WORKER_DIRECT_EXCHANGE.name:
        return False
    if facts.fleet is None or facts.fleet.unread:
        return True
    nodes = [worker.node_name for worker in facts.fleet.workers]
    return any(node == sent.published.routing_key or "%" in node for node in nodes)


def _nearest_key(sent: Sent, visit: Visit) -> str | None:
    keys = [attempt.binding.binding_key for attempt in visit.attempts]
    return nearest(sent.published.routing_key, keys, 0.4) if visit.type in ("topic", "direct") else None


def _fix(visit: Visit, near: str | None) -> str:
    if visit.type == "headers":
        return f'Exchange("{visit.exchange}", "headers", arguments={{"alternate-exchange": "unfiled"}})'
    takes = f"`{near}`" if near else "a binding"
    return (
        f'routing_key="..." that {takes} takes, or arguments={{"alternate-exchange": "unfiled"}} on `{visit.exchange}`'
    )


@rule(
    "WB110",
    "Exchange and routing key come from different places and match no binding",
    Severity.ERROR,
    any_broker=True,
    symptom="One place names a queue, another names a routing key, and the task reaches neither.",
    cause="Celery merges routing options one by one: call, then decorator, then `task_routes`. The queue brings its "
    "exchange; a routing key from another place replaces the queue's own key.",
    failing="""
app.conf.task_queues = [Queue("resize", Exchange("pictures", "topic"), "pictures.resize")]
app.conf.task_default_queue = "resize"
app.conf.task_routes = {"proj.*": {"routing_key": "pictures.crop"}}

@app.task(name="proj.resize", queue="resize")
def resize(): ...
""",
    fixed="""
app.conf.task_queues = [Queue("resize", Exchange("pictures", "topic"), "pictures.resize")]
app.conf.task_default_queue = "resize"
app.conf.task_routes = {"proj.*": {"queue": "resize", "routing_key": "pictures.resize"}}

@app.task(name="proj.resize")
def resize(): ...
""",
    source="https://github.com/celery/celery/issues/4831",
)
def mixed(facts: Facts) -> Iterator[Found]:
    for sent in _lost(facts):
        pair = _mixed(sent)
        if pair is not None:
            first, second = pair
            yield Found(
                (sent.task, sent.published.exchange),
                f"{said(first)} and {said(second)} are merged: {published(sent)}, which matches no binding",
                f"give both in one place, or take `{second.name}` out of {second.source}",
                sent.where,
            )


def _mixed(sent: Sent) -> tuple[Option, Option] | None:
    """The option that gives the exchange and the one that gives the key, where two sources gave them."""
    first, second = sent.option("queue") or sent.option("exchange"), sent.option("routing_key")
    return (first, second) if first and second and first.source != second.source else None


@rule(
    "WB120",
    "The task is published to an exchange that nobody declares",
    Severity.ERROR,
    symptom="The first publication is lost or fails with 404, and sometimes the error appears at another call.",
    cause="RabbitMQ closes the channel when a message is published to an exchange that doesn't exist. Without confirms,"
    " the error appears later, at another call. Celery declares the exchanges of its queues and no others.",
    failing="""
app.conf.task_queues = [Queue("usa", Exchange("news", "topic"), "usa.#")]
app.conf.task_default_queue = "usa"

@app.task(exchange="nwes", routing_key="usa.weather")
def report(): ...
""",
    fixed="""
app.conf.task_queues = [Queue("usa", Exchange("news", "topic"), "usa.#")]
app.conf.task_default_queue = "usa"

@app.task(exchange="news", routing_key="usa.weather")
def report(): ...
""",
    source="https://github.com/celery/kombu/issues/1039",
)
def missing_exchange(facts: Facts) -> Iterator[Found]:
    refused = {item.name for item, _ in facts.app.refused if isinstance(item, Exchange)}
    for sent in facts.app.publications():
        name = sent.published.exchange
        if sent.queues is None and name not in refused and not (facts.live and name in facts.live.exchanges):
            near = nearest(name, filter(None, facts.app.router.exchanges))
            missing = "the application declares no such exchange" + (f"; did you mean `{near}`?" if near else "")
            yield Found(
                (sent.task, name),
                f"{published(sent)}, and {missing}",
                f'exchange="{near}"'
                if near
                else f"the application whose workers consume from `{name}` declares it: start it first, and check both "
                "with a second -A",
                sent.where,
                None if near or facts.live else Severity.WARNING,
            )


@rule(
    "WB121",
    "`mandatory=True` without confirms: nobody learns of a returned message",
    Severity.WARNING,
    symptom="The call returns, the broker returns the task, and the error is raised by a later, unrelated call.",
    cause="RabbitMQ's basic.return arrives after the publication. Only with `confirm_publish` does the call wait for "
    "it.",
    failing="""
@app.task(mandatory=True)
def report(): ...
""",
    fixed="""
app.conf.broker_transport_options = {"confirm_publish": True}

@app.task(mandatory=True)
def report(): ...
""",
    source="https://github.com/celery/kombu/issues/886",
)
def unconfirmed_mandatory(facts: Facts) -> Iterator[Found]:
    if (facts.app.conf.broker_transport_options or {}).get("confirm_publish"):
        return
    for sent in facts.app.publications():
        task = facts.app.tasks.get(sent.task)
        if sent.call.get("mandatory") or (task and task.options.get("mandatory") and not sent.where):
            yield Found(
                (sent.task,),
                "it is published mandatory and without confirms: if it reaches no queue, this call returns as if all "
                "were well",
                with_confirms(facts),
                sent.where,
            )


@rule(
    "WB122",
    "Celery itself cannot publish the task",
    Severity.ERROR,
    symptom="The call raises: QueueNotFound, KeyError, ValueError.",
    cause="The options name a queue that isn't declared while `task_create_missing_queues` is off, or a key, a header "
    "or a priority that AMQP can't carry.",
    failing="""
app.conf.task_create_missing_queues = False
app.conf.task_queues = [Queue("reports"), Queue("celery")]

@app.task(queue="report")
def report(): ...
""",
    fixed="""
app.conf.task_create_missing_queues = False
app.conf.task_queues = [Queue("reports"), Queue("celery")]

@app.task(queue="reports")
def report(): ...
""",
    source="https://docs.celeryq.dev/en/stable/userguide/configuration.html#task-create-missing-queues",
)
def unpublishable(facts: Facts) -> Iterator[Found]:
    malformed, form = _malformed_routes(facts) or ("", "")
    if malformed:
        refused = [one.task for one in facts.app.sent if one.publication is None and not one.task.startswith("celery.")]
        yield Found(
            ("task_routes", *dict.fromkeys(refused)),
            f"the setting task_routes is malformed: {malformed}; every publication raises",
            f"app.conf.task_routes = {form}",
        )
    for sent in facts.app.sent:
        task = facts.app.tasks.get(sent.task)
        if sent.publication is not None or "countdown" in sent.call or (task and task.is_builtin):
            continue
        if malformed or sent.is_unrouted:
            continue
        name = str(sent.call.get("queue") or (task.options.get("queue") if task else None) or "")
        yield Found((sent.task,), sent.refusal, _publishable(facts, sent.refusal, name), sent.where)


def _malformed_routes(facts: Facts) -> tuple[str, str] | None:
    """What is wrong with the form of `task_routes`, and how the same is written right; None where nothing is."""
    routes = facts.app.conf.task_routes
    for layer in routes if isinstance(routes, list | tuple) else (routes,):
        if isinstance(layer, tuple) and len(layer) == 2 and isinstance(layer[1], Mapping | str):
            return (
                "a list of pairs must be a list within the list, `task_routes = ([(...), (...)],)`",
                f"({[*routes]!r},)",
            )
        pairs = layer.items() if isinstance(layer, Mapping) else layer if isinstance(layer, list | tuple) else ()
        for pair in pairs:
            if not (isinstance(pair, list | tuple) and len(pair) == 2):
                return (
                    f"expected pairs of a name and its options, got {pair!r}",
                    f'{{"{_named(pair)}": {{"queue": "..."}}}}',
                )
            queue = pair[1].get("queue") if isinstance(pair[1], Mapping) else pair[1]
            if isinstance(queue, Mapping):
                said = f"the queue of {pair[0]!r}: expected its name or a kombu.Queue, got {queue!r}"
                return said, f'{{"{pair[0]}": {{"queue": "{queue.get("name") or queue.get("queue") or "..."}"}}}}'
    return None


def _named(pair: object) -> str:
    """The task that something malformed is about, as far as can be told."""
    first = next(iter(pair), None) if isinstance(pair, list | tuple) else pair
    return first if isinstance(first, str) else "..."


def _publishable(facts: Facts, refusal: str, queue: str) -> str:
    if refusal.startswith("priority: "):
        return "priority=5"
    if "AMQP" in refusal:
        return "names of 255 bytes at most, and headers of text, numbers, lists and tables"
    near = nearest(queue, facts.app.declared, 0.6) if queue else None
    return f'queue="{near}"' if near else f"declare what it names; there are {all_of(sorted(facts.app.declared))}"

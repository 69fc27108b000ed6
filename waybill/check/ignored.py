"""Options that Celery ignores, so that the task goes where it always went: WB103, WB104, WB115, WB117."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from waybill.celery_app.names import is_delayed
from waybill.check.facts import Facts, Sent
from waybill.check.finding import Found, Severity, rule
from waybill.check.phrases import all_of, nearest, published, routing, said
from waybill.matching.topic import is_pattern


@rule(
    "WB103",
    "`exchange` without a routing key is ignored",
    Severity.WARNING,
    symptom="The task goes to the default queue, as if no exchange had been given.",
    cause="If the routing key is empty and the queue is on a direct exchange, Celery publishes to the default exchange "
    "with the queue's name.",
    failing="""
app.conf.task_queues = [Queue("celery"), Queue("mail", Exchange("signups", "fanout"), "any")]

@app.task(name="proj.welcome", exchange="signups")
def welcome(): ...
""",
    fixed="""
app.conf.task_queues = [Queue("celery"), Queue("mail", Exchange("signups", "fanout"), "any")]
app.conf.task_routes = {"proj.welcome": {"exchange": "signups", "exchange_type": "fanout"}}

@app.task(name="proj.welcome")
def welcome(): ...
""",
    source="https://github.com/celery/celery/issues/5751",
)
def ignored_exchange(facts: Facts) -> Iterator[Found]:
    for sent in facts.app.publications():
        option = sent.option("exchange")
        to = sent.published.exchange
        if option and option.value and option.value != to and not is_delayed(to):
            yield Found(
                (sent.task, str(option.value)),
                f"{said(option)} is ignored: {published(sent)}, and it reaches {all_of(sent.queues or ())}",
                _route_to(facts, sent.task, str(option.value)),
                sent.where,
            )


def _route_to(facts: Facts, task: str, name: str) -> str:
    """An entry of `task_routes` that Celery heeds, for an exchange that was meant."""
    exchanges = facts.app.router.exchanges
    meant = name if name in exchanges else nearest(name, filter(None, exchanges))
    if meant is None:
        return f"take the exchange out; where another service declares `{name}`, give routing_key and exchange_type too"
    if exchanges[meant].type != "direct":
        more = {"exchange_type": exchanges[meant].type}
    else:
        keys = [binding.binding_key for binding in facts.app.bindings if binding.source == meant]
        more = {"routing_key": keys[0] if keys else "..."}
    return routing(facts, task, {"exchange": meant, **more})


@rule(
    "WB104",
    "`routing_key` is ignored on a direct exchange",
    Severity.WARNING,
    symptom="Tasks with different keys all land in one queue.",
    cause="For a queue on a direct exchange, Celery publishes to the default exchange with the queue's name and ignores"
    " the given key.",
    failing="""
app.conf.task_queues = [Queue("cpu", Exchange("work"), "cpu"), Queue("gpu", Exchange("work"), "gpu")]
app.conf.task_default_queue = "cpu"

@app.task(routing_key="gpu")
def render(): ...
""",
    fixed="""
app.conf.task_queues = [Queue("cpu", Exchange("work"), "cpu"), Queue("gpu", Exchange("work"), "gpu")]
app.conf.task_default_queue = "cpu"

@app.task(queue="gpu")
def render(): ...
""",
    source="https://github.com/celery/celery/issues/3603",
)
def ignored_key(facts: Facts) -> Iterator[Found]:
    for sent in facts.app.publications():
        option, to = sent.option("routing_key"), sent.published
        queue = sent.option("queue")
        is_named = queue is not None and queue.value == option.value if option else False
        if option and option.value and not to.exchange and option.value != to.routing_key and not is_named:
            yield Found(
                (sent.task, str(option.value)),
                f"{said(option)} is ignored: {published(sent)}, and it reaches {all_of(sent.queues or ())}",
                _queue_for(facts, str(option.value)),
                sent.where,
            )


def _queue_for(facts: Facts, key: str) -> str:
    """The queue that was meant by a routing key: that of its binding, or of the nearest key or name."""
    bound = {binding.binding_key: binding.destination for binding in reversed(facts.app.bindings)}
    queues = {**bound, **{name: name for name in facts.app.declared}}
    meant = key if key in queues else nearest(key, queues)
    if meant is not None:
        return f'queue="{queues[meant]}", or give `exchange` with the key'
    return f"take the key out, or name one of the queues {all_of(facts.app.declared)} with `queue`"


@rule(
    "WB115",
    "`send_task` ignores the options of the task's decorator",
    Severity.NOTE,
    symptom="A task sent by its name goes to the default queue; `delay()` sends it to the right one.",
    cause="The decorator's options are known only where the task is imported, and `send_task` reads them only since "
    "Celery 5.7. `task_routes` applies to every sender that has the settings.",
    failing="""
@app.task(name="proj.index", queue="reports")
def index(): ...

def later():
    app.send_task("proj.index")
""",
    fixed="""
app.conf.task_routes = {"proj.index": {"queue": "reports"}}

@app.task(name="proj.index")
def index(): ...

def later():
    app.send_task("proj.index")
""",
    source="https://github.com/celery/celery/issues/7516",
)
def by_name(facts: Facts) -> Iterator[Found]:
    for call in facts.app.calls:
        task = facts.app.tasks.get(call.task)
        if call.method != "send_task" or task is None or {"queue", "exchange", "routing_key"} & set(call.options):
            continue
        options = {name: task.options[name] for name in ("queue", "exchange", "routing_key") if name in task.options}
        if options:
            said_by = ", ".join(f"{name}={value!r}" for name, value in options.items())
            yield Found(
                (call.task,),
                f"sent by name, and only its decorator says {said_by}: a process that hasn't imported the task "
                f"sends it to `{facts.app.conf.task_default_queue}`",
                routing(facts, call.task, options),
                call.where,
            )


@rule(
    "WB117",
    "Wildcards in a routing key match nothing",
    Severity.WARNING,
    symptom="A task without a routing key of its own reaches the wrong queues, or misses the right ones.",
    cause="A queue's binding key is also the routing key of its tasks. `*` and `#` are wildcards in a binding key only;"
    " in a routing key they are plain words.",
    failing="""
app.conf.task_queues = [Queue("all", Exchange("work", "topic"), "tasks.#")]
app.conf.task_default_queue = "all"

@app.task(queue="all")
def index(): ...
""",
    fixed="""
app.conf.task_queues = [Queue("all", Exchange("work", "topic"), "tasks.#")]
app.conf.task_default_queue = "all"
app.conf.task_default_routing_key = "tasks.default"

@app.task(queue="all", routing_key="tasks.index")
def index(): ...
""",
    source="https://www.rabbitmq.com/tutorials/tutorial-five-python",
)
def pattern_as_key(facts: Facts) -> Iterator[Found]:
    # One queue, one cause: its binding key is the key of all tasks that name nothing but the queue.
    alike: dict[tuple[str, str, bool], list[Sent]] = defaultdict(list)
    for sent in facts.app.publications():
        to = sent.published
        kind = facts.app.router.exchanges.get(to.exchange)
        if kind is not None and kind.type == "topic" and is_pattern(to.routing_key) and not is_delayed(to.exchange):
            alike[to.exchange, to.routing_key, sent.queues == _meant(sent)].append(sent)
    for (_, key, is_as_meant), found in alike.items():
        yield Found(
            (*dict.fromkeys(sent.task for sent in found), key),
            f"{published(found[0])}: `*` and `#` are plain words in a routing key, and it reaches "
            f"{all_of(found[0].queues or ())}",
            'routing_key="..." without wildcards, in the decorator, in task_routes or in the call',
            found[0].where,
            Severity.NOTE if is_as_meant else None,
        )


def _meant(sent: Sent) -> tuple[str, ...]:
    """The queue that was named, or the default one."""
    option = sent.option("queue")
    return (str(option.value),) if option else ()

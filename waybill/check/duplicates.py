"""More copies than meant: wide bindings, retries that multiply, shared keys: WB101, WB106, WB108, WB109."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from waybill.celery_app.installed import NATIVE_DELAY_FROM
from waybill.celery_app.names import BROADCAST_PREFIX
from waybill.check.facts import Facts, Sent
from waybill.check.finding import Found, Severity, rule
from waybill.check.phrases import all_of, exchange, published
from waybill.topology import Binding
from waybill.topology.declarations import effective_type

TERMS = 4
"""So many rounds of retries are written out: the first, and the three that Celery makes by default."""


@rule(
    "WB101",
    "A headers queue gets every message",
    Severity.ERROR,
    celery=NATIVE_DELAY_FROM,
    symptom="Since the application has a quorum queue, queues on a headers exchange receive everything.",
    cause="For native delayed delivery, each worker binds every queue that isn't on a direct exchange a second time, "
    "with `#.<key>` and without arguments. On a headers exchange, a binding without arguments matches every "
    "message.",
    failing="""
app.conf.task_queues = [
    Queue("celery", queue_arguments={"x-queue-type": "quorum"}),
    Queue("pdf", Exchange("documents", "headers"), "any", binding_arguments={"format": "pdf", "x-match": "all"}),
]
""",
    fixed="""
app.conf.task_queues = [
    Queue("celery"),
    Queue("pdf", Exchange("documents", "headers"), "any", binding_arguments={"format": "pdf", "x-match": "all"}),
]
""",
    source="https://docs.celeryq.dev/en/stable/userguide/calling.html#eta-and-countdown",
)
def headers_take_all(facts: Facts) -> Iterator[Found]:
    app = facts.app
    chosen = {(b.source, b.destination) for b in app.bindings if b.arguments}
    declared = {(b.source, b.destination) for b in app.bindings if _is_widened_headers(facts, b)} & chosen
    live = {
        (b.source, b.destination)
        for b in (one.binding for one in (facts.live.bindings if facts.live else ()))
        if b.binding_key.startswith("#.") and not b.arguments
    } & {pair for pair in chosen if _type(facts, pair[0]) == "headers"}
    for source, queue in sorted(declared | live):
        why = f"`{app.quorum_queues[0]}` is a quorum queue, so workers bind" if declared else "a worker once bound"
        yield Found(
            (queue, source),
            f"{why} `{queue}` to the headers exchange `{source}` without arguments: every message published there "
            f"reaches it{', and this binding exists on the broker already' if (source, queue) in live else ''}",
            f'a topic exchange for "{source}", or the quorum queues in another application or vhost'
            + ("; then remove the binding whose key begins with `#.`" if (source, queue) in live else ""),
        )


def _is_widened_headers(facts: Facts, binding: Binding) -> bool:
    return _type(facts, binding.source) == "headers" and binding.binding_key.startswith("#") and not binding.arguments


def _type(facts: Facts, name: str) -> str:
    found = facts.app.router.exchanges.get(name)
    return "" if found is None else effective_type(found)


@rule(
    "WB106",
    "Each retry multiplies the copies of a task",
    Severity.WARNING,
    symptom="One failing task runs hundreds of times, all under one id.",
    cause="A task that reaches several queues runs once in each. Each of these runs retries, and each retry publishes "
    "to the same exchange with the same key: to all the queues again.",
    failing="""
app.conf.task_queues = [
    Queue("celery"), *(Queue(name, Exchange("news", "fanout"), "any") for name in ("mail", "push", "log"))
]
app.conf.task_routes = {"proj.push": {"exchange": "news", "exchange_type": "fanout"}}

@app.task(name="proj.push", bind=True, max_retries=2)
def push(self):
    raise self.retry()
""",
    fixed="""
app.conf.task_queues = [
    Queue("celery"), *(Queue(name, Exchange("news", "fanout"), "any") for name in ("mail", "push", "log"))
]
app.conf.task_routes = {"proj.push": {"exchange": "news", "exchange_type": "fanout"}}

@app.task(name="proj.push")
def push(): ...
""",
    source="https://docs.celeryq.dev/en/stable/userguide/tasks.html#retrying",
)
def multiplying_retry(facts: Facts) -> Iterator[Found]:
    for first, again in facts.app.retried:
        task = facts.app.tasks[first.task]
        copies = _copies(facts, again)
        if copies < 2 or task.max_retries == 0:
            continue
        rounds = TERMS if task.max_retries is None else min(task.max_retries + 1, TERMS)
        runs = " + ".join(str(copies**power) for power in range(1, rounds + 1))
        more = task.max_retries is None or task.max_retries + 1 > TERMS
        yield Found(
            (first.task, *(again.queues or ())),
            f"retries of `{first.task}` reach {all_of(again.queues or ())}: {runs}{' + ...' if more else ''} runs",
            "max_retries=0, and a task of its own, sent to one queue, for the part that is retried",
            first.where or task.where,
        )


def _copies(facts: Facts, sent: Sent) -> int:
    """How many copies a publication makes: a Broadcast gives one to every worker that consumes it."""
    if sent.is_choice:
        return 1
    count = 0
    for queue in sent.queues or ():
        is_broadcast = queue.startswith(BROADCAST_PREFIX)
        count += len(facts.fleet.consumers(queue)) if is_broadcast and facts.fleet else 2 if is_broadcast else 1
    return count


@rule(
    "WB108",
    "Native delayed delivery adds a wider binding to a topic queue",
    Severity.WARNING,
    celery=NATIVE_DELAY_FROM,
    symptom="A queue on a topic exchange receives tasks that its binding key doesn't match.",
    cause="For native delayed delivery, each worker binds every queue that isn't on a direct exchange a second time, "
    "with `#.<key>`. This binding also matches longer keys with the same ending.",
    failing="""
pictures = Exchange("pictures", "topic")
app.conf.task_queues = [
    Queue("small", pictures, "resize", queue_arguments={"x-queue-type": "quorum"}),
    Queue("large", pictures, "large.resize", queue_arguments={"x-queue-type": "quorum"}),
]
app.conf.task_default_queue = "small"

@app.task(queue="large")
def enlarge(): ...
""",
    fixed="""
pictures = Exchange("pictures", "topic")
app.conf.task_queues = [
    Queue("small", pictures, "small.resize", queue_arguments={"x-queue-type": "quorum"}),
    Queue("large", pictures, "large.resize", queue_arguments={"x-queue-type": "quorum"}),
]
app.conf.task_default_queue = "small"

@app.task(queue="large")
def enlarge(): ...
""",
    source="https://docs.celeryq.dev/en/stable/userguide/calling.html#eta-and-countdown",
)
def widened(facts: Facts) -> Iterator[Found]:
    if not facts.app.delayed:
        return
    for sent in facts.app.publications():
        if sent.is_choice or not sent.queues or len(sent.queues) < 2:
            continue
        if _type(facts, sent.published.exchange) != "topic":
            continue
        matched = [attempt.binding for attempt in facts.app.trace(sent).root.matched]
        for queue in sent.queues:
            keys = {binding.binding_key for binding in matched if binding.destination == queue}
            if keys and all(_is_widening(facts, key, queue) for key in keys):
                yield Found(
                    (sent.task, queue),
                    f"{published(sent)}; `{queue}` gets it too, through the binding {all_of(sorted(keys))} that "
                    "workers make for delayed tasks",
                    f'a binding key for "{queue}" that is no ending of another key',
                    sent.where,
                )


def _is_widening(facts: Facts, key: str, queue: str) -> bool:
    narrow = key.removeprefix("#.")
    return narrow != key and any(b.destination == queue and b.binding_key == narrow for b in facts.app.bindings)


@rule(
    "WB109",
    "Queues without a routing key share one binding",
    Severity.WARNING,
    symptom="A task that is sent to one queue also arrives in another.",
    cause="A queue without an exchange or a key gets `task_default_exchange` and `task_default_routing_key`. On a "
    "topic or fanout exchange a message then reaches every such queue.",
    failing="""
app.conf.task_default_exchange_type = "topic"
app.conf.task_queues = [Queue("celery"), Queue("a"), Queue("b")]

@app.task(queue="a")
def one(): ...
""",
    fixed="""
app.conf.task_default_exchange_type = "topic"
app.conf.task_queues = [Queue("celery"), Queue("a", routing_key="a"), Queue("b", routing_key="b")]

@app.task(queue="a")
def one(): ...
""",
    source="https://github.com/celery/celery/issues/658",
)
def shared_key(facts: Facts) -> Iterator[Found]:
    key, default = facts.app.conf.task_default_routing_key, facts.app.conf.task_default_exchange
    sharing: dict[str, list[str]] = defaultdict(list)
    for binding in facts.app.bindings:
        kind = _type(facts, binding.source)
        if binding.binding_key == key and (kind == "topic" or (kind == "fanout" and binding.source == default)):
            sharing[binding.source].append(binding.destination)
    for source, found in sharing.items():
        queues = [queue for queue in found if not queue.startswith(BROADCAST_PREFIX)]
        if len(queues) > 1:
            yield Found(
                tuple(queues),
                f"{all_of(queues)} are bound to {exchange(source)} ({_type(facts, source)}) with the key `{key}`, the "
                "default: what is sent to one of them reaches them all",
                f'Queue("{queues[-1]}", routing_key="{queues[-1]}"), or a direct exchange',
            )

"""Priorities that change nothing: WB301, WB311 to WB313."""

from __future__ import annotations

from collections.abc import Iterator

from waybill.celery_app.options import SETTINGS
from waybill.check.facts import Facts, Sent
from waybill.check.finding import Found, Severity, rule
from waybill.check.phrases import said
from waybill.topology import Queue
from waybill.topology.values import QUORUM_DEFAULT_PRIORITY

LEVELS_FROM = (4, 3)
"""The version of RabbitMQ since which quorum queues have 32 priorities; from 4.0 on they had two."""


@rule(
    "WB301",
    "A priority has no effect",
    Severity.WARNING,
    symptom="Tasks with a high priority wait behind all the others.",
    cause="A classic queue without x-max-priority is first in, first out. A priority above the maximum counts as the "
    "maximum.",
    failing="""
@app.task(priority=9)
def urgent(): ...
""",
    fixed="""
app.conf.task_queue_max_priority = 10

@app.task(priority=9, acks_late=True, reject_on_worker_lost=True)
def urgent(): ...

app.conf.worker_prefetch_multiplier = 1
""",
    source="https://www.rabbitmq.com/docs/priority",
)
def without_effect(facts: Facts) -> Iterator[Found]:
    for sent, queue in _prioritized(facts):
        level, priority = queue.level_of(sent.published.priority), sent.published.priority
        if queue.type != "classic" or level == priority:
            continue
        option = sent.option("priority")
        if option and option.source.startswith(SETTINGS):  # of every task the same: there is nothing to order
            continue
        by = said(option) if option else f"priority={priority}"
        if queue.max_priority is None:
            text = f"{by} has no effect: `{queue.name}` has no x-max-priority"
        else:
            text = f"{by} counts as {level} in `{queue.name}`, whose x-max-priority is {queue.max_priority}"
        yield Found(
            (sent.task, queue.name),
            text,
            f'"x-max-priority": {max(priority or 0, 10)} in the queue_arguments of `{queue.name}`'
            f"{_unhidden(facts, sent)}",
            sent.where,
        )


def _unhidden(facts: Facts, sent: Sent) -> str:
    """What else a priority needs, as the end of a fix: workers that don't prefetch past it (WB311)."""
    task = facts.app.tasks.get(sent.task)
    if task is None or (facts.app.prefetch_multiplier == 1 and task.acks_late):
        return ""
    return "; app.conf.worker_prefetch_multiplier = 1; app.conf.task_acks_late = True"


def _prioritized(facts: Facts) -> Iterator[tuple[Sent, Queue]]:
    """The publications with a priority, each with the queues that it reaches."""
    for sent in facts.app.publications():
        if sent.published.priority:
            for name in sent.queues or ():
                yield sent, facts.app.router.queues[name]


@rule(
    "WB313",
    "A chain doesn't pass its priority on",
    Severity.NOTE,
    symptom="The first task of a chain is served first; the others wait behind everything else.",
    cause="The options of a chain's call apply to its first task only. The next tasks get the priority of their "
    "signature, their decorator or `task_default_priority`, or with `task_inherit_parent_priority` that of the "
    "first task.",
    failing="""
app.conf.task_queue_max_priority = 10
app.conf.worker_prefetch_multiplier = 1
app.conf.task_acks_late = app.conf.task_reject_on_worker_lost = True

@app.task(name="proj.first")
def first(): ...

@app.task(name="proj.second")
def second(x): ...

def later():
    from celery import chain
    chain(first.s(), second.s()).apply_async(priority=9)
""",
    fixed="""
app.conf.task_queue_max_priority = 10
app.conf.worker_prefetch_multiplier = 1
app.conf.task_acks_late = app.conf.task_reject_on_worker_lost = True
app.conf.task_inherit_parent_priority = True

@app.task(name="proj.first")
def first(): ...

@app.task(name="proj.second")
def second(x): ...

def later():
    from celery import chain
    chain(first.s(), second.s()).apply_async(priority=9)
""",
    source="https://github.com/celery/celery/issues/5597",
)
def not_passed_on(facts: Facts) -> Iterator[Found]:
    if facts.app.conf.task_inherit_parent_priority:
        return
    for call in facts.app.source.calls:
        priority = call.chain_options.get("priority")
        task = facts.app.tasks.get(call.task)
        own = call.options.get("priority", task.options.get("priority") if task else None)
        if priority and call.in_chain and own != priority:
            yield Found(
                (call.task,),
                f"priority={priority} of the chain applies to its first task only: this one has {own or 0}",
                f"`.set(priority={priority})` on its signature, or app.conf.task_inherit_parent_priority = True",
                call.where,
            )


@rule(
    "WB311",
    "Priority orders waiting messages, not prefetched ones",
    Severity.WARNING,
    symptom="The queue has x-max-priority, and an urgent task still waits behind others.",
    cause="A worker runs prefetched tasks in the order in which they arrived. Priority orders only the messages that "
    "wait in the queue.",
    failing="""
app.conf.task_queue_max_priority = 10

@app.task(priority=9)
def urgent(): ...
""",
    fixed="""
app.conf.task_queue_max_priority = 10
app.conf.worker_prefetch_multiplier = 1
app.conf.task_acks_late = True
app.conf.task_reject_on_worker_lost = True
app.conf.broker_transport_options = {"confirm_publish": True}

@app.task(priority=9)
def urgent(): ...
""",
    source="https://docs.celeryq.dev/en/stable/userguide/optimizing.html#prefetch-limits",
)
def hidden(facts: Facts) -> Iterator[Found]:
    multiplier = facts.app.prefetch_multiplier
    for sent, queue in _prioritized(facts):
        task = facts.app.tasks.get(sent.task)
        sorts = queue.type == "quorum" or queue.max_priority is not None
        if not sorts or task is None or (multiplier == 1 and task.acks_late):
            continue
        kept = "all that waits" if not multiplier else f"{multiplier}" + ("" if task.acks_late else " + 1")
        yield Found(
            (sent.task, queue.name),
            f"priority={sent.published.priority} orders `{queue.name}`, but each process of a worker prefetches {kept} "
            f"tasks (worker_prefetch_multiplier={multiplier}, acks_late={task.acks_late}) and runs those first",
            "app.conf.worker_prefetch_multiplier = 1; app.conf.task_acks_late = True",
            sent.where,
        )


@rule(
    "WB312",
    "Before RabbitMQ 4.3, quorum queues have two priorities",
    Severity.WARNING,
    needs=("version",),
    symptom="Tasks of different priorities arrive in the order in which they were sent.",
    cause="From 4.0 to 4.2, a quorum queue only distinguishes high (5 and more) from normal. Before 4.0 it has no "
    "priorities.",
    failing="""
rabbitmq = "4.1"
app.conf.task_queues = [Queue("celery", queue_arguments={"x-queue-type": "quorum"})]
app.conf.worker_prefetch_multiplier = 1

@app.task(priority=9, acks_late=True, reject_on_worker_lost=True)
def urgent(): ...

@app.task(priority=6, acks_late=True, reject_on_worker_lost=True)
def soon(): ...
""",
    fixed="""
rabbitmq = "4.3"
app.conf.task_queues = [Queue("celery", queue_arguments={"x-queue-type": "quorum"})]
app.conf.worker_prefetch_multiplier = 1

@app.task(priority=9, acks_late=True, reject_on_worker_lost=True)
def urgent(): ...

@app.task(priority=6, acks_late=True, reject_on_worker_lost=True)
def soon(): ...
""",
    source="https://www.rabbitmq.com/docs/quorum-queues#priorities",
)
def two_levels(facts: Facts) -> Iterator[Found]:
    assert facts.version is not None
    if facts.version >= LEVELS_FROM:
        return
    levels: dict[str, dict[bool, dict[int, str]]] = {}
    for sent, queue in _prioritized(facts):
        if queue.type == "quorum":
            priority = sent.published.priority or 0
            is_high = priority > QUORUM_DEFAULT_PRIORITY and facts.version >= (4, 0)
            levels.setdefault(queue.name, {}).setdefault(is_high, {})[priority] = sent.task
    for queue_name, groups in levels.items():
        for is_high, group in groups.items():
            if len(group) > 1:
                yield Found(
                    (queue_name, *group.values()),
                    f"the priorities {', '.join(map(str, sorted(group)))} are the same in `{queue_name}` on "
                    f"RabbitMQ {facts.version[0]}.{facts.version[1]}: {'high' if is_high else 'normal'}",
                    "RabbitMQ 4.3, or a classic queue with x-max-priority",
                )

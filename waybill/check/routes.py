"""Queue names that lead to a queue nobody serves: WB111, WB112."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from waybill.check.facts import Facts, Sent
from waybill.check.finding import Found, Severity, rule
from waybill.check.phrases import all_of, consuming, nearest, said, unread


@rule(
    "WB111",
    "Celery creates a queue that the application doesn't declare",
    Severity.ERROR,
    symptom="Tasks pile up in a queue that no worker consumes; often its name looks almost like one of yours.",
    cause="With `task_create_missing_queues`, which is on by default, Celery declares every queue that a route or a "
    "call names. A worker without `-Q` consumes the queues of `task_queues` only.",
    failing="""
app.conf.task_queues = [Queue("celery"), Queue("reports")]

@app.task(queue="report")
def report(): ...
""",
    fixed="""
app.conf.task_queues = [Queue("celery"), Queue("reports")]

@app.task(queue="reports")
def report(): ...
""",
    source="https://github.com/celery/celery/issues/4463",
)
def created_by_typo(facts: Facts) -> Iterator[Found]:
    known = {queue.name for queue in facts.app.listed} | {facts.app.conf.task_default_queue}
    known |= {queue.name for other in facts.app.others for queue in other.queues}
    strange: dict[str, list[Sent]] = defaultdict(list)
    for sent in facts.app.publications():
        for name in sent.created:
            near = nearest(name, known)
            if near and not (facts.fleet and facts.fleet.consumers(name)):
                option = sent.option("queue")
                by = f"{said(option)}: " if option else ""
                yield Found(
                    (sent.task, name),
                    f"{by}the application declares no queue `{name}`, and Celery creates it with the first "
                    f"publication; did you mean `{near}`?",
                    f'queue="{near}"; app.conf.task_create_missing_queues = False makes a misspelling an error',
                    sent.where,
                )
            # Without task_queues every queue comes to be like this.
            elif not near and facts.app.listed and facts.fleet is None and not _is_consumed(facts, name):
                strange[name].append(sent)
    for name, found in strange.items():
        tasks = dict.fromkeys(sent.task for sent in found)
        is_of_others = not tasks.keys() & facts.app.tasks.keys()  # another service's tasks go to its queues
        yield Found(
            (*tasks, name),
            f"the application declares no queue `{name}`: Celery creates it with the first publication, and only a "
            "worker whose `-Q` names it consumes it",
            f'Queue("{name}") in task_queues; or `--fleet`, which tells whether a worker consumes it',
            next((sent.where for sent in found if sent.where), ""),
            severity=Severity.NOTE if is_of_others else Severity.WARNING,
        )


def _is_consumed(facts: Facts, queue: str) -> bool:
    """Whether the live broker has a consumer of the queue."""
    return facts.live is not None and any(consumer.queue == queue for consumer in facts.live.consumers)


@rule(
    "WB112",
    "No worker consumes the default queue",
    Severity.WARNING,
    any_broker=True,
    symptom="Tasks without a route wait for ever. Chords never end, because Celery's own chord_unlock goes there too.",
    cause="`task_default_queue` is `celery` unless it is set. Workers consume `task_queues`, or the queues that `-Q` "
    "names.",
    failing="""
app.conf.task_queues = [Queue("images"), Queue("videos")]

@app.task
def clean_up(): ...
""",
    fixed="""
app.conf.task_queues = [Queue("images"), Queue("videos")]
app.conf.task_default_queue = "images"

@app.task
def clean_up(): ...
""",
    source="https://github.com/celery/celery/issues/6692",
)
def unserved_default(facts: Facts) -> Iterator[Found]:
    app, fleet = facts.app, facts.fleet
    name = app.conf.task_default_queue
    there = _to_default(facts)
    if not there:
        return
    if fleet is not None and not fleet.consumers(name):
        why = f"no worker of the fleet consumes `{name}`{unread(facts)}"
        fix = consuming(facts, name)
    elif fleet is None and app.listed and name not in app.declared:
        why = f"`{name}` is not in task_queues, so a worker without `-Q` doesn't consume it"
        fix = f'app.conf.task_default_queue = "{app.listed[0].name}", or Queue("{name}") in task_queues'
    else:
        return
    what = f"{why}, and {all_of(there[:5])} {'go' if len(there) > 1 else 'goes'} there"
    is_certain = not (fleet and fleet.unread) and not all(map(app.is_unasked, there))
    yield Found((name,), what, fix, severity=None if is_certain else Severity.NOTE)


def _to_default(facts: Facts) -> list[str]:
    """The tasks that go to the default queue; Celery's own when something in the code uses a chord."""
    name = facts.app.conf.task_default_queue
    sent = [one for one in facts.app.sent if one.queues and name in one.queues]
    return [
        one.task
        for one in sent
        if not _is_builtin(one) or ("chord" in facts.app.source.mentions and "chord" in one.task)
    ]


def _is_builtin(sent: Sent) -> bool:
    return sent.task.startswith("celery.")

"""The workers: what they consume, which tasks they have, their names: WB113, WB118, WB119, WB206, WB317."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from celery.utils.nodenames import worker_direct

from waybill.celery_app.fleet.workers import Worker
from waybill.check.facts import Facts
from waybill.check.finding import Found, Severity, rule
from waybill.check.phrases import all_of, consuming, nearest, unread


@rule(
    "WB113",
    "A worker receives a task that it has not registered, and discards it",
    Severity.ERROR,
    needs=("fleet",),
    any_broker=True,
    symptom="`Received unregistered task of type ...` in a worker's log, and the task is gone.",
    cause="Workers of different applications consume one queue. A worker acknowledges and discards a task that none of "
    "its modules registers.",
    failing="""
fleet = "all: celery -A other worker -n all@%h -Q celery"
# other.py is an application without this task

@app.task(name="proj.index")
def index(): ...
""",
    fixed="""
fleet = "all: celery -A proj worker -n all@%h -Q celery"

@app.task(name="proj.index")
def index(): ...
""",
    source="https://github.com/celery/celery/issues/3420",
)
def unregistered(facts: Facts) -> Iterator[Found]:
    assert facts.fleet is not None
    seen: set[tuple[str, str]] = set()
    for sent in facts.app.publications():
        for queue in sent.queues or ():
            for worker in facts.fleet.consumers(queue):
                app = worker.app or ""
                known = facts.fleet.tasks.get(app)
                if known is None or sent.task in known or (sent.task, worker.name) in seen:
                    continue
                seen.add((sent.task, worker.name))
                yield Found(
                    (sent.task, worker.name, queue),
                    f"`{worker.name}` consumes `{queue}` and its application `{app}` doesn't know `{sent.task}`: it "
                    "discards the task",
                    f"import the task's module in `{app}`, or another queue for it than `{queue}`",
                    sent.where,
                )


@rule(
    "WB118",
    "A worker's `-Q` names a queue that nobody declares",
    Severity.WARNING,
    needs=("fleet",),
    any_broker=True,
    symptom="A worker is running and idle, or doesn't start at all.",
    cause="With `task_create_missing_queues`, the worker creates the misspelt queue, and nobody publishes there. "
    "Without it, the worker ends with `ImproperlyConfigured`.",
    failing="""
fleet = "reports: celery -A proj worker -n reports@%h -Q celery,report"
app.conf.task_queues = [Queue("celery"), Queue("reports")]
""",
    fixed="""
fleet = "reports: celery -A proj worker -n reports@%h -Q celery,reports"
app.conf.task_queues = [Queue("celery"), Queue("reports")]
""",
    source="https://docs.celeryq.dev/en/stable/userguide/workers.html#queues",
)
def unknown_queue(facts: Facts) -> Iterator[Found]:
    assert facts.fleet is not None
    app = facts.app
    known = set(app.declared) | {str(queue.alias) for queue in app.declared.values() if queue.alias}
    known |= {name for sent in app.sent for name in sent.created}
    for worker in facts.fleet.workers:
        own = {worker_direct(worker.node_name).name} if app.conf.worker_direct else set()
        for name in worker.queues:
            if name in own:
                continue
            near = nearest(name, known)
            if name in known or (near is None and app.conf.task_create_missing_queues):
                continue
            does = "creates it" if app.conf.task_create_missing_queues else "doesn't start"
            hint = f"; did you mean `{near}`?" if near else ""
            yield Found(
                (worker.name, name),
                f"`{worker.name}` consumes `{name}`, which the application doesn't declare: the worker {does}{hint}",
                f"-Q {near}" if near else f'Queue("{name}") in task_queues',
                severity=None if app.conf.task_create_missing_queues else Severity.ERROR,
            )


@rule(
    "WB119",
    "Tasks go to a queue that no worker consumes",
    Severity.ERROR,
    needs=("fleet",),
    any_broker=True,
    symptom="The task is queued and never runs.",
    cause="Publishing to a queue declares it, but makes no worker consume it.",
    failing="""
fleet = "all: celery -A proj worker -n all@%h -Q celery"

@app.task(queue="reports")
def report(): ...
""",
    fixed="""
fleet = "all: celery -A proj worker -n all@%h -Q celery,reports"

@app.task(queue="reports")
def report(): ...
""",
    source="https://docs.celeryq.dev/en/stable/userguide/routing.html#automatic-routing",
)
def unconsumed(facts: Facts) -> Iterator[Found]:
    assert facts.fleet is not None
    tasks: dict[str, list[str]] = defaultdict(list)
    for sent in facts.app.publications():
        for queue in sent.queues or ():
            if queue != facts.app.conf.task_default_queue and not facts.fleet.consumers(queue):
                tasks[queue].append(sent.task)
    for queue, found in tasks.items():
        consumed = {name for worker in facts.fleet.workers for name in worker.queues}
        near = nearest(queue, consumed)
        names = sorted(set(found))
        yield Found(
            (queue, *names),
            f"{all_of(names[:5])} {'reach' if len(names) > 1 else 'reaches'} `{queue}`, and no worker (of "
            f"{len(facts.fleet.workers)}) consumes it" + (f"; one consumes `{near}`" if near else "") + unread(facts),
            (f'queue="{near}", or ' if near else "") + consuming(facts, queue),
            severity=Severity.NOTE if facts.fleet.unread else None,
        )


@rule(
    "WB317",
    "A worker's tasks and its bootstep consume one queue",
    Severity.ERROR,
    needs=("fleet",),
    symptom="`Received and deleted unknown message. Wrong destination?!?` in a worker's log, for every other message.",
    cause="A bootstep with consumers of its own receives messages beside Celery's consumer. If `-Q` names its queue "
    "too, both consume it: the broker gives each a part of the messages, and Celery deletes messages that aren't "
    "tasks.",
    failing="""
from celery import bootsteps
from kombu import Consumer
fleet = "stock: celery -A proj worker -n stock@%h -Q events"
events = Queue("events", Exchange("stock", "topic"), "stock.#")

class Stock(bootsteps.ConsumerStep):
    def get_consumers(self, channel):
        return [Consumer(channel, queues=[events], callbacks=[self.on_event], accept=["json"])]

    def on_event(self, body, message):
        message.ack()

app.steps["consumer"].add(Stock)
""",
    fixed="""
from celery import bootsteps
from kombu import Consumer
fleet = "stock: celery -A proj worker -n stock@%h -Q celery"
events = Queue("events", Exchange("stock", "topic"), "stock.#")

class Stock(bootsteps.ConsumerStep):
    def get_consumers(self, channel):
        return [Consumer(channel, queues=[events], callbacks=[self.on_event], accept=["json"])]

    def on_event(self, body, message):
        message.ack()

app.steps["consumer"].add(Stock)
""",
    source="https://docs.celeryq.dev/en/stable/userguide/extending.html#custom-message-consumers",
)
def shared_with_a_step(facts: Facts) -> Iterator[Found]:
    assert facts.fleet is not None
    for worker in facts.fleet.workers:
        for step in facts.app.steps:
            for queue in step.queues.intersection(worker.queues):
                yield Found(
                    (worker.name, queue, step.name),
                    f"`{worker.name}` consumes `{queue}` for tasks, and so does its bootstep `{step.name}`: each gets "
                    "a part of the messages, and Celery deletes those that aren't tasks",
                    f"-Q without `{queue}`; a worker without tasks of its own takes a queue of its own, -Q celery",
                    step.where,
                )


@rule(
    "WB206",
    "Two workers have one node name",
    Severity.ERROR,
    needs=("fleet",),
    symptom="The second worker ends with 405 RESOURCE_LOCKED, or each takes the other's remote-control messages.",
    cause="The worker's queue for remote control is named after the node name. From Celery 5.7 on, that queue is "
    "exclusive.",
    failing="""
fleet = '''
one: celery -A proj worker -Q celery
two: celery -A proj worker -Q celery
'''
""",
    fixed="""
fleet = '''
one: celery -A proj worker -n one@%h -Q celery
two: celery -A proj worker -n two@%h -Q celery
'''
""",
    source="https://docs.celeryq.dev/en/stable/userguide/workers.html#starting-the-worker",
)
def duplicate_node_names(facts: Facts) -> Iterator[Found]:
    assert facts.fleet is not None
    named: dict[str, list[Worker]] = defaultdict(list)
    for worker in facts.fleet.workers:
        # In a container `%h` and `%d` are those of the container.
        if not worker.has_own_host or "%" not in worker.node_name.partition("@")[2]:
            named[worker.node_name].append(worker)
    for node_name, workers in named.items():
        if len(workers) > 1:
            services = [worker.service for worker in workers]
            yield Found(
                (node_name, *services),
                f"{all_of(services)} all run `-n {node_name}`: only the first to start gets its remote-control queue",
                " and ".join(f"-n {service}@%h" for service in services[:2]),
            )

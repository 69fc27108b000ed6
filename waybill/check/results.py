"""Results and chords: WB306, WB309, WB315."""

from __future__ import annotations

from collections.abc import Iterator

from waybill.celery_app.names import BROADCAST_PREFIX
from waybill.check.facts import Facts
from waybill.check.finding import Found, Severity, rule
from waybill.check.phrases import all_of


@rule(
    "WB306",
    "The result backend can't do chords",
    Severity.ERROR,
    symptom="A chord raises NotImplementedError when it's called, or its body never runs.",
    cause="Celery counts the finished tasks of a chord in the result backend. `rpc://` keeps results in the caller's "
    "own queue and can't count them; without a backend there is nothing to count in.",
    failing="""
from celery import chord
app.conf.result_backend = "rpc://"

@app.task
def add(x, y): ...

def later():
    chord([add.s(1, 1)])(add.s(1))
""",
    fixed="""
from celery import chord
app.conf.result_backend = "redis://localhost"

@app.task
def add(x, y): ...

def later():
    chord([add.s(1, 1)])(add.s(1))
""",
    source="https://docs.celeryq.dev/en/stable/userguide/canvas.html#important-notes",
)
def no_chords(facts: Facts) -> Iterator[Found]:
    where = facts.app.source.mentions.get("chord")
    backend = _backend(facts)
    if where is not None and (backend is None or backend.startswith("rpc")):
        shown = "rpc://" if backend else "disabled"
        yield Found(
            ("result_backend",),
            f"the code uses a chord, and the result backend is {shown}: it can't count the chord's tasks",
            'app.conf.result_backend = "redis://..."',
            where,
        )


def _backend(facts: Facts) -> str | None:
    """The result backend's address, None where there is none."""
    given = facts.app.conf.result_backend
    return None if not given or str(given).startswith("disabled") else str(given)


@rule(
    "WB315",
    "The result backend can't be loaded",
    Severity.ERROR,
    any_broker=True,
    symptom="Every apply_async and delay raises ImportError or ImproperlyConfigured, and no worker starts.",
    cause="Celery loads the result backend's class before it publishes. The backend's name is misspelt, or its package "
    "isn't installed here.",
    failing="""
app.conf.result_backend = "django-db-typo"

@app.task
def index(): ...
""",
    fixed="""
app.conf.result_backend = "cache+memory://"

@app.task
def index(): ...
""",
    source="https://docs.celeryq.dev/en/stable/userguide/configuration.html#result-backend",
)
def unloadable(facts: Facts) -> Iterator[Found]:
    if facts.app.backend_error:
        shown = str(facts.app.conf.result_backend).partition("://")[0]  # behind it there may be a password
        yield Found(
            ("result_backend", shown),
            f"Celery can't load the result backend `{shown}`: {facts.app.backend_error}",
            "install the package that brings it, run waybill where the application runs, or mend the name",
        )


@rule(
    "WB309",
    "Copies of a task overwrite each other's result",
    Severity.WARNING,
    symptom="`result.get()` returns the answer of only one worker, the last one.",
    cause="All copies of a message have one task id, and the backend keeps one result for each id.",
    failing="""
app.conf.result_backend = "redis://localhost"
app.conf.task_queues = [Queue("celery"), Broadcast("everyone")]
app.conf.task_routes = {"proj.reload": {"queue": "everyone"}}

@app.task(name="proj.reload")
def reload(): ...
""",
    fixed="""
app.conf.result_backend = "redis://localhost"
app.conf.task_queues = [Queue("celery"), Broadcast("everyone")]
app.conf.task_routes = {"proj.reload": {"queue": "everyone"}}

@app.task(name="proj.reload", ignore_result=True)
def reload(): ...
""",
    source="https://docs.celeryq.dev/en/stable/userguide/routing.html#broadcast",
)
def overwritten(facts: Facts) -> Iterator[Found]:
    if _backend(facts) is None:
        return
    for sent in facts.app.publications():
        task = facts.app.tasks.get(sent.task)
        queues = sent.queues or ()
        is_many = len(queues) > 1 or any(queue.startswith(BROADCAST_PREFIX) for queue in queues)
        if is_many and task is not None and not task.ignore_result:
            yield Found(
                (sent.task, *queues),
                f"each publication runs more than once, from {all_of(queues)}, under one id: the last result is kept",
                "@app.task(ignore_result=True)",
                sent.where or task.where,
            )

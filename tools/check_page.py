"""docs/reference/rules.md, made of the rules: `python -m tools.check_page` writes it, a test compares."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from tests.support.programs import ROOT
from waybill.check import NEEDS, RULES, Rule
from waybill.check.report import since

PAGE = ROOT / "docs" / "reference" / "rules.md"

FAMILIES = {
    "WB1": "To the wrong place, or nowhere",
    "WB2": "The declaration fails, or does nothing",
    "WB3": "It arrives, and doesn't do what people think",
    "WB4": "Tests that prove less than they seem to",
}

HEAD = """\
# What `waybill check` finds

This page is made of the rules themselves (`python -m tools.check_page`), and a test holds it to them. Every example
is run by the tests: the failing one gives the finding, the fixed one gives none. What a rule says is made to happen on
RabbitMQ by the test that `tests/rules/test_proofs.py` names for it.

```console
$ waybill -A proj check                       # or: celery -A proj waybill check
$ waybill -A proj check --fleet docker-compose.yml
$ waybill -A proj check --management http://user:password@host:15672
$ waybill check --list
$ waybill check --explain WB105
```

A check connects to nothing unless it is given `--management`, and then it asks only by GET, as a user tagged
`monitoring` (another sees only its own consumers). Exit codes: 0, 1 with a finding at or above `--fail-on` (`warning`
unless it says otherwise), 2 when it couldn't be done. **error** means that tasks are lost or a declaration fails,
**warning** that it surprises, **note** that it is good to know; a finding that changes nothing as things are is a note,
whatever its rule is. What couldn't be checked, and what would make it possible, is said at the end, and so is what is
ignored and wasn't found. So are the rules about what only a later Celery than the installed one does.

A check runs Celery's own code for each task, up to the point where it would publish. Of your code it calls what
decides the route: the routers in `task_routes`, and a task class's own `apply_async` and `shadow_name`. It calls no
handler of a signal and makes no result backend. Handlers of `before_task_publish` may change headers, and with them the
route of a headers exchange: where there are any, the last lines name them (`handlers_not_called` with `--json`), and
`waybill explain TASK --signals` calls them for one task. Handlers of `after_task_publish` are never called.

The examples stand behind these lines, and may name a `fleet` (the text of a Procfile), what `lives` on the broker, the
messages `waiting` there, and the version of `rabbitmq`:

```python
from celery import Celery
from kombu import Exchange, Queue, binding
from kombu.common import Broadcast

app = Celery("proj", broker="amqp://guest:guest@localhost//")
```

A finding that is meant to be is left out with a reason ([commands.md](commands.md) has the rest of the configuration):

```toml
# pyproject.toml
[tool.waybill.ignore]             # a code, or a code and one of the names in the finding's first line
"WB105:proj.report" = "a signal handler adds the header"
```
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_contents(), *(block for rule in _rules() for block in _section(rule))])


def _rules() -> list[Rule]:
    return [rule for _, rule in sorted(RULES.items())]


def _contents() -> Iterator[str]:
    for prefix, title in FAMILIES.items():
        yield f"## {title}\n"
        yield "| code | severity | what | needs |\n| --- | --- | --- | --- |"
        for rule in _rules():
            if rule.code.startswith(prefix):
                link = f"[{rule.code}](#{_anchor(_title(rule))})"
                yield f"| {link} | {rule.severity.word} | {rule.title} | {', '.join(rule.needs)} |"
        yield ""


def _section(rule: Rule) -> Iterator[str]:
    yield f"### {_title(rule)}\n"
    yield f"**{rule.severity.word}.** {rule.symptom}\n"
    yield f"{rule.cause}\n"
    for need in rule.needs:
        yield f"Needs {NEEDS[need]}\n"
    if rule.celery:
        yield f"From Celery {since(rule)} on.\n"
    yield f"```python\n# failing\n{rule.failing}\n```\n"
    yield f"```python\n# fixed\n{rule.fixed}\n```\n"
    yield f"Source: <{rule.source}>\n"


def _title(rule: Rule) -> str:
    return f"{rule.code} {rule.title}"


def _anchor(title: str) -> str:
    """The name that GitHub gives a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def main() -> None:
    """Write the page."""
    argparse.ArgumentParser(
        prog="python -m tools.check_page", description="Write docs/reference/rules.md from the rules."
    ).parse_args()
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()

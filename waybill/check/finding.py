"""What a check finds, and the register of all rules: the one place where a rule's code stands.

    code     WB1xx  to the wrong place, or nowhere         WB3xx  it arrives, and doesn't do what people think
             WB2xx  the declaration fails                  WB4xx  tests that prove less than they seem to

A rule is a function over `Facts` that yields `Found`s. Its decorator carries what a reader has to know of it, and two
examples, which the tests run: the failing one gives the finding, the fixed one gives none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

from waybill.celery_app.installed import since
from waybill.check.facts import Facts

Need = Literal["fleet", "live", "version"]

NEEDS: dict[Need, str] = {
    "fleet": "the workers' commands: --fleet docker-compose.yml, or a Procfile with them",
    "live": "the broker's management API: --management http://user:password@host:15672",
    "version": "RabbitMQ's version: --rabbitmq 4.3, or --management",
}
"""What a rule may need beside the application, and the option that gives it."""


class Severity(IntEnum):
    """How bad it is: tasks are lost or a declaration fails; it surprises; it is good to know."""

    NOTE = 1
    WARNING = 2
    ERROR = 3

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Found:
    """What a rule yields.

    Attributes:
        objects: what it is about, by name: tasks, queues, exchanges, workers, settings.
        text: what happens, with the actual values.
        fix: a line of code or a command.
        where: `file:line` where that is known, else empty.
        severity: where this one is not as bad, or worse, than the rule says.
    """

    objects: tuple[str, ...]
    text: str
    fix: str
    where: str = ""
    severity: Severity | None = None


Check = Callable[[Facts], Iterator[Found]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule and what there is to say of it.

    Attributes:
        needs: what must be known beside the application.
        any_broker: it holds whatever the broker is, and not for RabbitMQ alone.
        celery: the first line of Celery in which an application can be made to do this; None for all that we support.
        failing, fixed: Python that makes an application `app`, and may name a `fleet` (the text of a Procfile), what
            `lives` on the broker (Kombu's queues and exchanges) and the version of `rabbitmq`.
        source: where the behaviour is stated or reported.
    """

    code: str
    title: str
    severity: Severity
    needs: tuple[Need, ...]
    any_broker: bool
    celery: tuple[int, int] | None
    symptom: str
    cause: str
    failing: str
    fixed: str
    source: str
    check: Check

    @property
    def is_of_this_celery(self) -> bool:
        """Whether the installed Celery has what the rule is about."""
        return self.celery is None or since(self.celery)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found.

    Attributes:
        application: of which it is found, where several were checked; empty otherwise.
    """

    rule: Rule
    found: Found
    application: str = ""

    @property
    def severity(self) -> Severity:
        return self.found.severity or self.rule.severity

    def to_json(self) -> dict[str, Any]:
        return {
            "code": self.rule.code,
            "severity": self.severity.word,
            "title": self.rule.title,
            "objects": list(self.found.objects),
            "text": self.found.text,
            "fix": self.found.fix,
            "where": self.found.where or None,
            "source": self.rule.source,
            **({"application": self.application} if self.application else {}),
        }


RULES: dict[str, Rule] = {}
"""Code -> rule; filled when the families are imported, which `waybill.check` does."""


def rule(
    code: str,
    title: str,
    severity: Severity,
    *,
    needs: tuple[Need, ...] = (),
    any_broker: bool = False,
    celery: tuple[int, int] | None = None,
    symptom: str,
    cause: str,
    failing: str,
    fixed: str,
    source: str,
) -> Callable[[Check], Check]:
    """Register the decorated function as the rule of this code."""

    def register(check: Check) -> Check:
        assert code not in RULES, code
        examples = failing.strip(), fixed.strip()
        RULES[code] = Rule(code, title, severity, needs, any_broker, celery, symptom, cause, *examples, source, check)
        return check

    return register

"""docs/reference/commands.md, made of the commands' help: `python -m tools.commands_page` writes it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from inspect import cleandoc

import click

from tests.support.programs import ROOT
from waybill.cli.group import COMMANDS, waybill

PAGE = ROOT / "docs" / "reference" / "commands.md"

HEAD = """\
# The commands

This page is made of the commands' own help (`python -m tools.commands_page`), and a test compares the two.

Every command also works below Celery: `celery -A proj waybill explain ...` is `waybill -A proj explain ...`. Results go
to standard output, everything else to standard error. An error is one line that begins with `error: `.

| exit status | meaning |
| --- | --- |
| 0 | all is well |
| 1 | the command found something: a finding, a difference, a refusal |
| 2 | the command could not do its work |
| 130, 143, 129 | ended by Ctrl-C, by SIGTERM, by closing the terminal |

Names, routing keys and headers can hold any character. In output for people, characters that cannot be printed are
escaped as in Python (`\\x1b`, `\\n`, `\\u202e`). So is what a GitHub workflow would read as a command (`::error::`).
JSON holds the names themselves.

## Configuration

```toml
# pyproject.toml
[tool.waybill]
app = "proj"                      # as for `waybill -A`
fleet = "docker-compose.yml"      # as for `--fleet`; relative to this file's folder
```

Both hold for every command, and `[tool.waybill.ignore]` for `check` ([rules.md](rules.md)). The file is the first
pyproject.toml with this table, in the current folder or in a folder above it; the application is imported from that
folder too. Options override the file, and `--no-fleet` ignores its fleet.

## The formats of `waybill topology`

- `text`: a tree; each binding with its queue, and the queue's workers where a fleet is known.
- `json`: Waybill's own. `vhost`; `exchanges` (`name`, `type`, `durable`, `auto_delete`, `internal`, `arguments`);
  `queues` (`name`, `type`, `durable`, `exclusive`, `auto_delete`, `arguments`, `workers`); `bindings` (`source`,
  `destination`, `destination_type`, `binding_key`, `arguments`). `workers` is a list of names, or null without a fleet.
  `explain --json` and `diff --json` use the same names of fields.
- `definitions`: RabbitMQ's own, for `rabbitmqctl import_definitions` and `waybill broker --definitions`. It has no
  workers and no exclusive queues, because these end with their connection.
- `mermaid`: a flowchart with exchanges as hexagons, queues as boxes and workers as rounded boxes.

## All commands
"""


def page() -> str:
    """The whole page."""
    context = click.Context(waybill)
    found = ((name, waybill.get_command(context, name)) for name in COMMANDS)
    blocks = [block for name, command in found if command for block in _section(name, command)]
    return "\n".join([HEAD, "```\nwaybill [-A APP] COMMAND ...\n```\n", *_options(waybill), *blocks])


def _section(name: str, command: click.Command) -> Iterator[str]:
    arguments = [one.human_readable_name for one in command.params if isinstance(one, click.Argument)]
    yield f"### {' '.join(['waybill', name, *arguments])}\n"
    yield f"{cleandoc(command.help or '')}\n"
    yield from _options(command)


def _options(command: click.Command) -> Iterator[str]:
    for option in command.params:
        if isinstance(option, click.Option):
            yield f"- `{', '.join(option.opts)}{_value(option)}`: {option.help}{_notes(option)}"
    yield ""


def _value(option: click.Option) -> str:
    """What stands behind the option."""
    if option.is_flag:
        return ""
    if isinstance(option.type, click.Choice):
        return f" {'|'.join(option.type.choices)}"
    return f" {option.metavar or option.type.name.partition(' ')[0].upper()}"


def _notes(option: click.Option) -> str:
    notes = [f"also `${option.envvar}`"] if option.envvar else []
    notes += ["required"] if option.required else []
    notes += [f"default: `{option.default}`"] if option.show_default else []
    return f" ({', '.join(notes)})" if notes else ""


def main() -> None:
    """Write the page."""
    argparse.ArgumentParser(prog="python -m tools.commands_page", description=f"write {PAGE.name}").parse_args()
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()

"""The commands, pictures and files in the README and the lessons' pages: what is shown there, and what is true now.

A comment before a block says how to read it:

    <!-- numbers vary -->      digits and bars are not compared
    <!-- in FOLDER -->         the command runs in that folder
    <!-- in FOLDER: COMMAND --> before a picture: the command that prints it
    <!-- file PATH -->         the block is that file, from its first import on

`python -m tools.readme --broker URL` writes all of it anew, from a broker on which the fleet runs; the test compares.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from tests.support.programs import ROOT, call, module

README = ROOT / "README.md"
LESSONS = ROOT / "docs" / "lessons"
PAGES = (README, *(LESSONS / f"{name}.md" for name in ("exchanges", "calling", "workers", "canvas")))
TOPOLOGY = ROOT / "docs" / "pictures" / "topology.mmd"
TOPOLOGY_COMMAND = "waybill -A worker topology --format mermaid --no-fleet"

FOLDER = r"<!-- in (?P<folder>[^:\s]+) -->\n"
BLOCK = re.compile(
    rf"(?:{FOLDER})?(?P<varies><!-- numbers vary -->\n)?```console\n\$ (?P<command>.*)\n(?P<shown>(?:.*\n)*?)```\n"
)
PICTURE = re.compile(r"<!-- in (?P<folder>\S+): (?P<command>.*) -->\n```mermaid\n(?P<shown>(?:.*\n)*?)```\n")
FILE = re.compile(r"<!-- file (?P<path>\S+) -->\n```python\n(?P<shown>(?:.*\n)*?)```\n")

# A number with its blanks, or a bar: what differs from run to run where numbers vary.
VARYING = re.compile(r"[ \d.▏▎▍▌▋▊▉█]*[\d▏▎▍▌▋▊▉█][ \d.▏▎▍▌▋▊▉█]*")


@dataclass(frozen=True)
class Example:
    """A command on a page, and the output that the page shows below it.

    Attributes:
        folder: where it runs, from the repository's root.
    """

    command: str
    shown: str
    folder: str = "."
    varies: bool = False

    def is_shown_by(self, printed: str) -> bool:
        """Whether the page shows what was printed."""
        if not self.varies:
            return printed == self.shown
        return VARYING.sub("#", printed) == VARYING.sub("#", self.shown)

    @property
    def lesson(self) -> str | None:
        """The lesson that the command plays with its default arguments, if it is one."""
        found = re.fullmatch(r"python -m publishers\.(?:celery\.)?(\w+)", self.command)
        return found and found[1]

    def now(self) -> str:
        """What the command prints now."""
        program, *arguments = shlex.split(self.command)
        if self.folder != ".":  # whose modules are to be loaded by nobody else
            return module("waybill", *arguments, folder=ROOT / self.folder).out
        if program == "python":
            return call(arguments[1], *arguments[2:]).out
        return call("waybill.cli", *arguments).out


def _example(found: re.Match[str]) -> Example:
    groups = found.groupdict()
    return Example(found["command"], found["shown"], groups["folder"] or ".", bool(groups.get("varies")))


def examples() -> Iterator[Example]:
    """The commands with output, page by page; the picture of a topology is one of them."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for pattern in (PICTURE, BLOCK):
            yield from map(_example, pattern.finditer(text))
    yield Example(TOPOLOGY_COMMAND, TOPOLOGY.read_text(encoding="utf-8"))


def code_of(path: str) -> str:
    """A file as the README shows it: from its first import on."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return text[text.index("\nimport ") + 1 :]


def _command_anew(found: re.Match[str]) -> str:
    return f"{found.string[found.start() : found.start('shown')]}{_example(found).now()}```\n"


def _file_anew(found: re.Match[str]) -> str:
    return f"{found.string[found.start() : found.start('shown')]}{code_of(found['path'])}```\n"


def write(page: Path) -> None:
    """Write the page's outputs, pictures and files anew."""
    text = page.read_text(encoding="utf-8")
    for pattern, anew in ((PICTURE, _command_anew), (BLOCK, _command_anew), (FILE, _file_anew)):
        text = pattern.sub(anew, text)
    page.write_text(text, encoding="utf-8")


@click.command()
@click.option("--broker", help="URL of a broker on which the fleet runs; without it only the README is written.")
def main(broker: str | None) -> None:
    """Write the README and the lessons' pages anew."""
    if broker:
        os.environ["WAYBILL_BROKER_URL"] = broker
    for page in PAGES if broker else (README,):
        write(page)
    TOPOLOGY.write_text(Example(TOPOLOGY_COMMAND, "").now(), encoding="utf-8")


if __name__ == "__main__":
    main()

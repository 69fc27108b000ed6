"""The README's commands and pictures: what it shows, and what the programs show now.

Where times are shown, the line `<!-- numbers vary -->` stands before the block: then digits and bars are not compared.

`python -m tools.readme --broker URL` writes the README anew from what they print; the test only compares.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

import click

from tests.support.programs import ROOT, call

README = ROOT / "README.md"
BLOCK = re.compile(r"(?P<varies><!-- numbers vary -->\n)?```console\n\$ (?P<command>.*)\n(?P<shown>(?:.*\n)*?)```\n")
PICTURE = re.compile(r"<!-- (?P<command>.*) -->\n```mermaid\n(?P<shown>(?:.*\n)*?)```\n")


# A number with its blanks, or a bar: what differs from run to run where numbers vary.
VARYING = re.compile(r"[ \d.▏▎▍▌▋▊▉█]*[\d▏▎▍▌▋▊▉█][ \d.▏▎▍▌▋▊▉█]*")


@dataclass(frozen=True)
class Example:
    """A command of the README, and the output that it shows below it."""

    command: str
    shown: str
    varies: bool = False

    def is_shown_by(self, printed: str) -> bool:
        """Whether the README shows what was printed."""
        if not self.varies:
            return printed == self.shown
        return VARYING.sub("#", printed) == VARYING.sub("#", self.shown)

    @property
    def lesson(self) -> str | None:
        """The lesson that the command plays with its default arguments, if it is one."""
        found = re.fullmatch(r"python -m publishers\.(\w+)", self.command)
        return found and found[1]

    def now(self) -> str:
        """What the command prints now."""
        program, *arguments = shlex.split(self.command)
        if program == "python":
            return call(arguments[1], *arguments[2:]).out
        return call("waybill.cli", *arguments).out


def examples() -> Iterator[Example]:
    """The commands with output, in the order of the README; the picture is one of them."""
    for pattern in (PICTURE, BLOCK):
        for found in pattern.finditer(README.read_text(encoding="utf-8")):
            yield Example(found["command"], found["shown"], bool(found.groupdict().get("varies")))


def _anew(found: re.Match[str]) -> str:
    return f"{found.string[found.start() : found.start('shown')]}{Example(found['command'], found['shown']).now()}```\n"


@click.command()
@click.option("--broker", required=True)
def main(broker: str) -> None:
    """Write the README's outputs anew, from a broker on which the fleet runs."""
    os.environ["WAYBILL_BROKER_URL"] = broker
    text = README.read_text(encoding="utf-8")
    README.write_text(BLOCK.sub(_anew, PICTURE.sub(_anew, text)), encoding="utf-8")


if __name__ == "__main__":
    main()

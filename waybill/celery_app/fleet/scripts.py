"""The commands that a service runs: launchers are taken off, shell scripts are read, variables are resolved.

exec newrelic-admin run-program celery -A proj worker      ->  celery -A proj worker
sh -c 'migrate && celery -A proj worker -Q $QUEUES'         ->  migrate; celery -A proj worker -Q mails
./docker/worker.sh                                          ->  what stands in that file, where it is here
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from waybill.celery_app.fleet.services import MAX_BYTES, CannotRead, Service
from waybill.celery_app.fleet.variables import NAME, expanded

# What ends a command in a shell's script.
OPERATORS = "();<>|&\n"

SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh", "busybox"})

# A shell's words that start no program, whatever stands behind them.
BUILTINS = frozenset({"echo", "printf", ":", "test", "[", "[[", "if", "case", "for", "cd", "set"})

# Scripts that call scripts, at most.
MAX_DEPTH = 12

# What may stand where Celery's arguments begin: a word of a shell's script as one word of a command.
RUNS_CELERY = re.compile(r"celery\b[^\n;&|]*\b(worker|multi)\b")

# A script by its looks: a path, or a name that ends as shell scripts do.
SCRIPT = re.compile(r"(?:\.{0,2}/)?(?:[\w.@+-]+/)*[\w.@+-]+")


@dataclass(frozen=True, slots=True)
class Command:
    """One command, with the variables that it gets."""

    words: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


def commands_of(service: Service) -> list[Command]:
    """The commands that a service runs.

    Raises:
        CannotRead: it runs a script that isn't here, or words that no shell would take.
    """
    if service.script is not None:
        return list(_of_script(service.script, service, dict(service.environment), 0))
    return list(_of_words(service.words, service, dict(service.environment), 0))


def _of_words(words: Sequence[str], service: Service, variables: dict[str, str], depth: int) -> Iterator[Command]:
    """The commands of a list of words: itself, or those of the script that it hands to a shell or runs."""
    words, variables = _without_assignments(words, variables)
    if not words:
        return
    program, *arguments = words
    name = Path(program).name
    if name in BUILTINS:
        return
    if name in SHELLS and (script := _script_argument(arguments)) is not None:
        yield from _of_script(script, service, variables, depth)
        return
    # `watchfiles 'celery ...' folder`, an entrypoint such as `bash -c` of the image: a whole command in one word.
    for word in words:
        if " " in word and RUNS_CELERY.search(word) and name != "celery":
            yield from _of_script(word, service, variables, depth)
            return
    if len(words) == 1 and " " in program.strip():
        yield from _of_script(program, service, variables, depth)
        return
    if (path := _script_file(words, service)) is not None:
        yield from _of_file(path, words, service, variables, depth)
        return
    yield Command(tuple(words), variables)


def _without_assignments(words: Sequence[str], variables: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """`A=1 env B=2 exec program` as the program and the variables."""
    kept, found = list(words), dict(variables)
    while kept:
        name, is_set, value = kept[0].partition("=")
        if kept[0] in ("exec", "env", "command", "export"):
            kept.pop(0)
        elif is_set and NAME.fullmatch(name):
            found[name] = value
            kept.pop(0)
        else:
            break
    return kept, found


def _script_argument(arguments: Sequence[str]) -> str | None:
    """What `-c` hands to a shell."""
    for at, option in enumerate(arguments[:-1]):
        if re.fullmatch(r"-\w*c", option):
            return arguments[at + 1]
        if not option.startswith(("-", "+")) and option not in ("pipefail", "errexit", "sh"):
            return None
    return None


def _script_file(words: Sequence[str], service: Service) -> Path | None:
    """The shell script among the words that a service runs, as a file that is here."""
    candidates = words[1:2] if Path(words[0]).name in SHELLS else words[:2]
    for word in candidates:
        if SCRIPT.fullmatch(word) and (path := _found(word, service.folder)) is not None and _is_shell(path):
            return path
    return None


def _found(word: str, folder: Path) -> Path | None:
    """A file of the project for a path that may be one of the image: its longest end that is here."""
    parts = Path(word).parts
    for start in range(len(parts)):
        if parts[start] not in ("/", "..") and (path := folder.joinpath(*parts[start:])).is_file():
            return path
    return None


def _is_shell(path: Path) -> bool:
    if path.stat().st_size > MAX_BYTES:
        return False
    if path.suffix in (".sh", ".bash"):
        return True
    with path.open("rb") as file:
        first = file.readline(200)
    return first.startswith(b"#!") and any(shell.encode() in first for shell in SHELLS)


def _of_file(
    path: Path, words: Sequence[str], service: Service, variables: dict[str, str], depth: int
) -> Iterator[Command]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CannotRead(f"its script {path.name} cannot be read: {error}") from error
    # `"$@"` is what stands behind the script: an entrypoint ends with `exec "$@"`.
    at = next(index for index, word in enumerate(words) if Path(word).name == path.name)
    rest = " ".join(map(shlex.quote, words[at + 1 :]))
    numbered = {str(number): word for number, word in enumerate(words[at + 1 :], 1)}
    text = re.sub(r'"?\$\{?[@*]\}?"?', lambda _: rest, text)
    text = re.sub(r"\$\{?(\d)\}?", lambda found: numbered.get(found[1], ""), text)
    yield from _of_script(text, service, variables, depth)


def _of_script(script: str, service: Service, variables: dict[str, str], depth: int) -> Iterator[Command]:
    """A shell's script as its commands, in their order."""
    if depth >= MAX_DEPTH:
        raise CannotRead(f"its scripts call each other more than {MAX_DEPTH} deep")
    known = dict(variables)
    for words in _split(script, known):
        left, now = _without_assignments(words, known)
        if not left or words[0] == "export":
            known.update(now)  # `QUEUES=a` on a line of its own holds for what follows
            continue
        yield from _of_words(left, service, now, depth + 1)


def _split(script: str, variables: Mapping[str, str]) -> Iterator[list[str]]:
    """A script's commands as words, each with the variables as they are when it comes."""
    # A line that goes on, comments, and the number before a redirection, are no words.
    script = re.sub(r"\\\n", " ", script)
    script = re.sub(r"(?m)(^|(?<=\s))#.*$", "", script)
    script = re.sub(r"(?<=\s)\d(?=[<>])", " ", script)
    script = re.sub(r"\$\([^()]*\)|`[^`]*`", "$(command)", script)  # what it prints isn't known
    for command in _statements(script):
        try:
            words = shlex.split(expanded(command, variables), posix=True)
        except ValueError as error:
            if RUNS_CELERY.search(command):
                raise CannotRead(f"its command cannot be split into words: {error}") from error
            continue  # a heredoc, a pattern of `case`: no worker is started there
        if words:
            yield words


def _statements(script: str) -> Iterator[str]:
    """The text between a shell's operators, outside of quotes."""
    start, quote, place = 0, "", 0
    while place < len(script):
        character = script[place]
        if character == "\\" and quote != "'":
            place += 2
            continue
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif script.startswith(("${", "$("), place):
            place = _past(script, place + 1)
            continue
        elif character in OPERATORS:
            yield _without_keyword(script[start:place])
            start = place + 1
        place += 1
    yield _without_keyword(script[start:])


def _past(script: str, opened: int) -> int:
    """The place behind the bracket that closes the one here."""
    closing, depth = {"{": "}", "(": ")"}[script[opened]], 0
    for place in range(opened, len(script)):
        depth += (script[place] == script[opened]) - (script[place] == closing)
        if not depth:
            return place + 1
    return len(script)


def _without_keyword(statement: str) -> str:
    return re.sub(r"^\s*(?:then|else|do|time|!|\{)\s+", "", statement)

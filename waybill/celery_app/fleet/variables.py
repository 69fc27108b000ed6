"""Variables in a description: as docker compose resolves them, and as a shell does.

    $NAME ${NAME}     the value
    ${NAME:-default}  the default where it is unset or empty; with `-` alone only where it is unset
    ${NAME:+other}    the other where it is set and not empty; with `+` alone where it is set
    ${NAME:?message}  an error where it is unset or empty
    $$                compose alone: a dollar sign

Source: https://github.com/compose-spec/compose-spec/blob/main/12-interpolation.md
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from waybill.celery_app.fleet.services import CannotRead

NAME = re.compile(r"[A-Za-z_]\w*")
OPERATORS = (":-", ":+", ":?", "-", "+", "?")


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """A value of a compose file as docker compose reads it: unset is empty, and `$$` is a dollar sign.

    Raises:
        CannotRead: a variable that must be set isn't.
    """
    return _replaced(text, variables, lambda _: "", is_compose=True)


def expanded(script: str, variables: Mapping[str, str]) -> str:
    """A shell's script with the values of the variables that are known; what is unknown stays as it is.

    Text in single quotes and behind a backslash is left alone.

    Raises:
        CannotRead: a variable that must be set isn't.
    """
    parts, place = [], 0
    for quoted in re.finditer(r"'[^']*'|\\.", script, re.DOTALL):
        parts += [_replaced(script[place : quoted.start()], variables, lambda name: f"${{{name}}}"), quoted[0]]
        place = quoted.end()
    return "".join([*parts, _replaced(script[place:], variables, lambda name: f"${{{name}}}")])


def _replaced(text: str, variables: Mapping[str, str], unset: Callable[[str], str], *, is_compose: bool = False) -> str:
    found, place = [], 0
    while (dollar := text.find("$", place)) >= 0:
        found.append(text[place:dollar])
        value, place = _value(text, dollar, variables, unset, is_compose=is_compose)
        found.append(value)
    return "".join([*found, text[place:]])


def _value(
    text: str, dollar: int, variables: Mapping[str, str], unset: Callable[[str], str], *, is_compose: bool
) -> tuple[str, int]:
    """The value of what begins at a dollar sign, and the place behind it."""
    if is_compose and text.startswith("$$", dollar):
        return "$", dollar + 2
    if plain := NAME.match(text, dollar + 1):
        name = plain[0]
        return variables.get(name, unset(name)), plain.end()
    if not text.startswith("${", dollar) or (end := _closing(text, dollar + 2)) is None:
        return "$", dollar + 1
    found = _braced(text[dollar + 2 : end], variables, unset, is_compose=is_compose)
    return (text[dollar : end + 1] if found is None else found), end + 1


def _braced(inner: str, variables: Mapping[str, str], unset: Callable[[str], str], *, is_compose: bool) -> str | None:
    """The value of what stands in `${...}`; None where it isn't one of the forms above."""
    named = NAME.match(inner)
    if named is None:
        return None
    name, rest = named[0], inner[named.end() :]
    operator = next((one for one in OPERATORS if rest.startswith(one)), "")
    if not operator:
        return None if rest else variables.get(name, unset(name))
    known, word = variables.get(name), rest[len(operator) :]
    is_set = bool(known) if operator.startswith(":") else known is not None
    if operator.endswith("?") and not is_set:
        raise CannotRead(f"the variable {name} must be set: {word or 'it has no value'}")
    if is_set and not operator.endswith("+"):
        return str(known)
    if not is_set and operator.endswith("+"):
        return ""
    return _replaced(word, variables, unset, is_compose=is_compose)


def _closing(text: str, start: int) -> int | None:
    """The place of the brace that closes one opened before `start`."""
    depth = 1
    for place in range(start, len(text)):
        if text[place] == "}":
            depth -= 1
            if not depth:
                return place
        elif text.startswith("${", place):
            depth += 1
    return None


def read_env_file(text: str) -> dict[str, str]:
    """The variables of an `env_file` or `.env`: NAME=value lines, with or without quotes."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, is_set, value = line.strip().removeprefix("export ").partition("=")
        if not is_set or name.startswith("#") or not NAME.fullmatch(name.strip()):
            continue
        value = value.strip()
        if value[:1] in ("'", '"') and value[:1] == value[-1:] and len(value) > 1:
            value = value[1:-1]
        else:
            value = re.sub(r"\s#.*", "", value).strip()
        found[name.strip()] = value
    return found

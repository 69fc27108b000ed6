"""The tree in the docstring of waybill.errors is the tree in the code."""

from __future__ import annotations

import re

from waybill import errors


def drawn() -> dict[str, str]:
    """Error -> its parent, as drawn: four columns a level."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"    ([│├└─ ]*)([A-Z]\w+) {2,}\S", line):
            level = len(found[1]) // 4
            path[level:] = [found[2]]
            if level:
                parents[found[2]] = path[level - 1]
    return parents


def test_the_tree_is_drawn_as_it_is() -> None:
    found = {
        name: kind.__bases__[0].__name__
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.WaybillError) and kind is not errors.WaybillError
    }
    assert drawn() == found


def test_an_unknown_name_suggests_the_nearest() -> None:
    assert str(errors.UnknownName("queue", "vidoes", ["videos", "images"], "the application")) == (
        "no queue 'vidoes' in the application; did you mean 'videos'?"
    )
    assert str(errors.UnknownName("queue", "x", [])) == "no queue 'x'"

"""Where nodes stand: a column for each kind, within it in an order in which few edges cross; what stands stays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from waybill.live.names import KINDS
from waybill.live.shape import Shape

NODE_WIDTH, NODE_HEIGHT = 172, 44
GAP, MARGIN = 14, 24
COLUMN = 256
"""Units of a page; a browser scales them."""

COLUMNS = tuple(MARGIN + place * COLUMN for place in range(len(KINDS)))
"""Where each kind's column begins."""

SWEEPS = 4


@dataclass(frozen=True, slots=True)
class Place:
    """The top left corner of a node."""

    column: int
    row: int
    x: int
    y: int


def layout(shape: Shape, before: Mapping[str, int] | None = None) -> dict[str, Place]:
    """A place for each node.

    Args:
        before: the rows of the nodes that stood already: they keep them, new ones take free rows below.
    """
    columns: dict[int, list[str]] = defaultdict(list)
    for node in shape.nodes:
        columns[KINDS.index(node.kind)].append(node.id)
    rows = _stable(columns, before) if before else _ordered(shape, columns)
    places = {}
    for column, ids in columns.items():
        for one in ids:
            row = rows[one]
            places[one] = Place(column, row, COLUMNS[column], 2 * MARGIN + row * (NODE_HEIGHT + GAP))
    return places


def size(places: Mapping[str, Place]) -> tuple[int, int]:
    """Width and height of all."""
    lowest = max((place.y for place in places.values()), default=0)
    return COLUMNS[-1] + NODE_WIDTH + MARGIN, lowest + NODE_HEIGHT + MARGIN


def _stable(columns: Mapping[int, list[str]], before: Mapping[str, int]) -> dict[str, int]:
    rows: dict[str, int] = {}
    for ids in columns.values():
        taken = {before[one] for one in ids if one in before}
        free = (row for row in range(len(ids) + len(taken) + 1) if row not in taken)
        for one in ids:
            rows[one] = before[one] if one in before else next(free)
    return rows


def _ordered(shape: Shape, columns: Mapping[int, list[str]]) -> dict[str, int]:
    """By barycentre: each node near the middle of its neighbours in the next columns, in a few sweeps."""
    neighbours: dict[str, list[str]] = defaultdict(list)
    for edge in shape.edges:
        if edge.kind in ("publish", "binding", "consume"):
            neighbours[edge.source].append(edge.target)
            neighbours[edge.target].append(edge.source)
    rank = {one: place / max(len(ids), 1) for ids in columns.values() for place, one in enumerate(ids)}
    for _ in range(SWEEPS):
        for ids in columns.values():
            middle = {
                one: sum(rank[other] for other in neighbours[one]) / len(neighbours[one])
                if neighbours[one]
                else rank[one]
                for one in ids
            }
            ids.sort(key=lambda one: (middle[one], one))
            rank |= {one: place / max(len(ids), 1) for place, one in enumerate(ids)}
    return {one: place for ids in columns.values() for place, one in enumerate(ids)}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)

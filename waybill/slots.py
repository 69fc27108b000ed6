"""A slot: what an index keeps at the end of a key. Nearly always that is one binding, so one is kept bare.

A million dictionaries of one entry each would weigh 230 MB; a million bare bindings weigh nothing more.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, TypeAlias, TypeVar

from waybill.values import Binding

Slot: TypeAlias = Binding | dict[Binding, None]

K = TypeVar("K", bound=Hashable)


def add_to(index: dict[K, Any], key: K, binding: Binding) -> None:
    """Put `binding` into the slot at `key`."""
    slot = index.get(key)
    if slot is None:
        index[key] = binding
    elif slot.__class__ is dict:
        slot[binding] = None
    else:
        index[key] = {slot: None, binding: None}


def remove_from(index: dict[K, Any], key: K, binding: Binding) -> None:
    """Take `binding`, which is there, out of the slot at `key`; an empty slot goes."""
    slot = index[key]
    if slot.__class__ is dict:
        del slot[binding]
        if not slot:
            del index[key]
    else:
        del index[key]


def each_in(slot: Slot) -> Iterable[Binding]:
    """The bindings in a slot."""
    return slot if isinstance(slot, dict) else (slot,)

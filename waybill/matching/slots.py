"""A slot: what an index keeps at the end of a key. Nearly always that is one binding, so one is kept bare.

A million dictionaries of one entry each would weigh 230 MB; a million bare bindings weigh nothing more.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from typing import TypeAlias, TypeVar

from waybill.topology.values import Binding

Slot: TypeAlias = Binding | dict[Binding, None]

K = TypeVar("K", bound=Hashable)


def joined(slot: Slot | None, binding: Binding) -> Slot:
    """The slot with `binding` in it."""
    if slot is None:
        return binding
    if isinstance(slot, dict):
        slot[binding] = None
        return slot
    return {slot: None, binding: None}


def parted(slot: Slot | None, binding: Binding) -> Slot | None:
    """The slot without `binding`, which is in it; None where nothing is left."""
    if not isinstance(slot, dict):
        return None
    del slot[binding]
    return slot or None


def add_to(index: dict[K, Slot], key: K, binding: Binding) -> None:
    """Put `binding` into the slot at `key`."""
    index[key] = joined(index.get(key), binding)


def remove_from(index: dict[K, Slot], key: K, binding: Binding) -> None:
    """Take `binding`, which is there, out of the slot at `key`; an empty slot goes."""
    slot = parted(index[key], binding)
    if slot is None:
        del index[key]


def each_in(slot: Slot) -> Collection[Binding]:
    """The bindings in a slot."""
    return slot if slot.__class__ is dict else (slot,)  # type: ignore[return-value]

"""Publish an order that succeeds and one that doesn't."""

from tasks import ship

for order in ("good", "broken"):
    ship.apply_async((order,), queue="orders", mandatory=True)

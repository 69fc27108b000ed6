"""Publish one signup and one announcement. A fanout exchange ignores the routing key."""

from tasks import greet, reload_settings

greet.apply_async(("ada",), exchange="signups", exchange_type="fanout", routing_key="ignored", mandatory=True)
reload_settings.apply_async(exchange="announcements", exchange_type="fanout", routing_key="ignored", mandatory=True)

"""The embedded broker: RabbitMQ's behaviour with nothing installed, for tests and demos on one machine.

    with Broker() as broker:
        app.conf.broker_url = broker.url

It keeps everything in memory. For anything that must survive, there is RabbitMQ.
See docs/explanation/embedded-broker.md.
"""

from waybill.broker.limits import Limits
from waybill.broker.server import Broker

__all__ = ["Broker", "Limits"]

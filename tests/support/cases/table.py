"""The one table of what RabbitMQ does with a declaration or a message, each row with its source.

    CASES ──▶ engine.py    waybill's router answers          ─┐
          └─▶ live.py      a broker answers, over AMQP        ─┴▶ tests hold both against
          the row

The rows stand by subject in the files beside this one. A row says what the newest measured RabbitMQ does, 4.3.6; what
older ones do otherwise stands in docs/explanation/router.md. The generated comparison in tools/conformance
prints what it finds as a row of this form.
"""

from __future__ import annotations

from tests.support.cases.declarations import DECLARATIONS
from tests.support.cases.exchanges import EXCHANGES
from tests.support.cases.headers import HEADERS
from tests.support.cases.published import PUBLISHED
from tests.support.cases.queues import QUEUES
from tests.support.cases.topic import TOPIC

CASES = (*TOPIC, *HEADERS, *EXCHANGES, *PUBLISHED, *QUEUES, *DECLARATIONS)

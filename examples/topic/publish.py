"""Publish news with several routing keys; no queue takes the last one."""

from amqp.exceptions import ChannelError
from tasks import report

for key in ("usa.news", "usa.weather", "norway.news", "norway.weather"):
    try:
        report.apply_async(
            (key,),
            exchange="news",
            exchange_type="topic",
            routing_key=key,
            mandatory=True,  # with confirm_publish: raises here if no queue takes it
        )
    except ChannelError as error:
        print(f"{key}: {error.reply_text}")

"""Direct: a message goes to the queues whose binding key *equals* its routing key.

exchange  routing key  queues
media     media.video  videos
media     media.image  images
media     media.audio  none: the message is returned
"""

from __future__ import annotations

from kombu import Exchange, Queue

media = Exchange("media", type="direct")

videos = Queue("videos", media, routing_key="media.video")
images = Queue("images", media, routing_key="media.image")
QUEUES = (videos, images)
EXCHANGES = (media,)

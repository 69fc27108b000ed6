"""What exists on a broker: the management API's client, and the state of a vhost. Nothing is changed."""

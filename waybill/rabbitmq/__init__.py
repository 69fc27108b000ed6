"""What exists on a broker: the management API's client, policies, and the state of a vhost. Nothing is changed."""

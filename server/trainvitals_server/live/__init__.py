"""The way out to browsers: the hub, which never waits, and the live socket."""

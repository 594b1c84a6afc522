"""What is kept, in SQLite. SQL lives here and nowhere else; one thread writes, others read a snapshot each.

Functions take a connection first. Those that write are called by the writer's thread inside its transaction; those
that read take any connection. Hot paths are prepared statements, the rest goes through sqlite-utils.
"""

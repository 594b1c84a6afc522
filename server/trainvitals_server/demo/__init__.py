"""The demonstration: a server and the wavessm example as children of one program, on one machine.

`child` is a process and its end, `serving` a server ready to answer, `example` the training program, `summary` what the
server knows of the run in the end. The verb is `trainvitals_server.cli.demo`.
"""

"""From the training thread to the server's disk: outbox, spool, session, sender.

The training thread only ever appends to the outbox. One background thread does everything else: it numbers and spools
what the outbox holds, and streams the spool over one websocket, which it opens again whenever it breaks.
"""

"""From the training thread to the server's disk.

The training thread only ever appends to the outbox. One background thread, the courier, does everything else: the
intake numbers and spools what the outbox holds, and the link streams the spool over one websocket, which it opens again
whenever it breaks; what may be said when is the session's.

    outbox -> intake -> spool (segments, retention, thinning, quarantine) -> reading -> link (session, address)

A ledger is how far a spool reaches and how much of it a server has. What a process leaves behind when it ends is
claimed by its lock, gone through (survey), brought to its end (remains) and streamed by the same link (recovery).
"""

"""What is read at each step. A probe declares its series as columns when it is made and gives its values as parts.

Probes run on the training thread and never synchronise with the device. They hold no lock and do no I/O. One that
raises is caught by its guard (`guard.py`), counted, reported, and disabled after repeated faults.
"""

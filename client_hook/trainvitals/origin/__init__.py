"""Where a non-finite value came from: the failing batch is run once more, under hooks, and the first module that makes
something non-finite out of what is finite is named.

`forwards.py` remembers what the models were called with, `replay.py` runs it again, `trace.py` is what is seen then,
`verdict.py` says who it was, `inquiry.py` decides when, and `batches.py` keeps the batch for the post-mortem.
"""

"""The parts of `benchmarks/ingest.py`; those with a `main` run as processes of their own."""

"""The parts of `benchmarks/hook.py`: networks, ways to log them, the stopwatch, and what is made of the figures."""

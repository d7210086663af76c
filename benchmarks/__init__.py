"""Benchmarks and experiments, each a command: `python -m benchmarks`."""

"""Fluxion beside its peers, timed in one run: `python -m benchmarks [name ...] [--markdown]`."""

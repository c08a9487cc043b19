"""Promises with figures: ``python -m benchmarks.reliability NAME`` measures one, and docs/reliability.md has them all.

A promise is a file in ``promises/``, whose name is the promise's, with a ``PROMISE``; what was measured last is in
``results/``.  Short forms run with the tests, in tests/test_reliability.py.
"""

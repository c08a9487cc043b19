"""Programs that measure fastconv, each run as ``python -m benchmarks.NAME``; their tables are in docs/benchmarks.md."""

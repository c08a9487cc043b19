"""Programs that end with one LeNet-5 training step, for ``benchmarks.start``: what a script does before it trains."""

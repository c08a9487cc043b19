"""The same LeNet-5 for each library that ``benchmarks.step`` compares, each run in a process of its own."""

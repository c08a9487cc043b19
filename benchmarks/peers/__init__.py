"""The same networks and convolutions for each library that is compared, each run in a process of its own."""

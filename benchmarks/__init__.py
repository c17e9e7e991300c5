"""Benchmarks and load tests. `make bench` runs the comparison of servers."""

"""Benchmarks: the kernels beside a memcpy of the same bytes and beside what people use today.

How a figure comes about: bench/race.py. What is measured: bench/lines.py. Run it: `make bench`.
"""

"""Faults, on purpose: damaged files, kills, full disks, and what the command line makes of them.

    python -m benchmarks.faults [--minutes 5] [--part runs kills ...] [--count N] [--seed 0] [--json]

Every part is a module with `run(count, seed) -> dict`: how often it tried, what it counted, and under "failures" a sentence for
everything that should not have been. The oracle of a verdict is the network itself, called at points of the path.
"""

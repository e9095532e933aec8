"""What a synthetic check costs beside what it is built on; `python -m bench.checks` prints the table."""

"""Simulated rollouts under several policies: ours, those of other tools, and an oracle.

`python -m bench.rollouts --save` runs them and keeps what came out in `bench/results/rollouts.json`; from it
come the tables of `docs/verdict.md` (`make docs`). Everything is seeded.
"""

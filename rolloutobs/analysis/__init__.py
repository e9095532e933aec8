"""Is the canary worse than stable? Sources of counts, the e-value engine, reports and the gate.

Belongs here: everything between a metric and a decision. Does not belong here: acting on it, which is a
controller's work. `model`, `policy`, `ticks`, `evidence`, `judge` and `verdict` are pure: no I/O, no clock,
no environment, no randomness.
"""

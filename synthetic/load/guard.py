"""Loaded by Locust beside every locustfile, so that requests of users that are none of ours are noticed.

Belongs here: that import.
"""

from synthetic.load import RolloutUser as RolloutUser

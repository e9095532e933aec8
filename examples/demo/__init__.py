"""The demo: a live canary rollout of the shop on this machine, ending in a verdict."""

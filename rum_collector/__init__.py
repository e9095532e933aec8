"""The collector of real-user beacons: bodies of browsers in, metrics per version, track and route out.

    __main__ > app > ingest > instruments > admission | limits | bundle > beacon | settings > scrub | words

Belongs here: parsing what browsers send, bounding its cost, counting it, and serving the browser script.
Does not belong here: judging what was counted (`rolloutobs.analysis`).
"""

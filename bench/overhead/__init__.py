"""What `instrument(app)` costs, against doing nothing, the least that metrics can cost, and other tools.

    python -m bench.overhead --help        (make bench, make bench-peers)

Belongs here: subjects (what is measured), traffic (what they are asked), the worker process that holds them,
rounds (how they are compared), and one module per further question: loopback, exposition, imports, pieces.
"""

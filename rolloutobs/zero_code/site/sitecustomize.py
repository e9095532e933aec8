"""Run by Python at start-up in every process that ``rolloutobs run`` leads to. Not part of the package: its
folder is put on ``PYTHONPATH``.
"""

import os
import sys
from importlib import import_module


def _next_one() -> None:
    """Run the ``sitecustomize`` that this one hides, if there is one."""
    # os.path: this runs at every start of Python, and pathlib is not free.
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    path, module = list(sys.path), sys.modules.pop("sitecustomize", None)
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != here]  # noqa: PTH100
    try:
        import_module("sitecustomize")
    except ModuleNotFoundError:
        pass
    finally:
        if module is not None:
            sys.modules["sitecustomize"] = module
        # The path of what is started from here keeps us; that of this process was theirs before.
        sys.path[:] = [entry for entry in path if os.path.abspath(entry or os.curdir) != here]  # noqa: PTH100


_next_one()
try:
    from rolloutobs.zero_code import activate

    activate()
except Exception as error:  # a broken telemetry must not keep a program from starting
    print(f"rolloutobs: nothing is instrumented: {error}", file=sys.stderr)  # noqa: T201

"""``python -m rolloutobs.cli``."""

import sys

from rolloutobs.cli import main

sys.exit(main())

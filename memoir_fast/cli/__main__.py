"""`python -m memoir_fast.cli` is `memoir-fast`."""

import sys

from .app import main

sys.exit(main())

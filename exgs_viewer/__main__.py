"""`python -m exgs_viewer` is `exgs`."""

import sys

from exgs_viewer.cli import main

sys.exit(main())

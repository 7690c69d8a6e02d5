"""Run with ``python -m kd_lightning``."""

import sys

from kd_lightning.cli import main

if __name__ == "__main__":
    sys.exit(main())

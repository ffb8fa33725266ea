"""So that `python -m lqrad` is the command line."""

import sys

from lqrad.cli import main

if __name__ == "__main__":
    sys.exit(main())

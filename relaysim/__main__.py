"""``python -m relaysim``: the command line where no script is installed."""

import sys

from relaysim.cli import main

if __name__ == "__main__":
    sys.exit(main())

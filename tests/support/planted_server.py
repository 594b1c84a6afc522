"""The server program with faults planted in it: `python planted_server.py [NAME=VALUE ...] -- serve ...`."""

import sys

from planted_faults import plant
from trainvitals_server.cli import main

if __name__ == "__main__":
    place = sys.argv.index("--")
    for one in sys.argv[1:place]:
        plant(one)
    sys.exit(main(sys.argv[place + 1 :]))

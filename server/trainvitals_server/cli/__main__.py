"""`python -m trainvitals_server.cli`: the command line, where its script is not on the path."""

import sys

from trainvitals_server.cli import main

sys.exit(main())

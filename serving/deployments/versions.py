"""When Serve replaces replicas: when their version is another. Left to itself it makes one up at every deployment, so a
changed number of replicas, or a reload that changes nothing, would replace them all.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from serving import __version__

if TYPE_CHECKING:
    from ray.serve import Deployment


def versioned(deployment: Deployment, *made_of: object) -> Deployment:
    """With a version that stands for our code's and for all of these. `_internal`: Serve once took a version from
    anybody, and takes it from itself still.
    """
    text = json.dumps([__version__, made_of], sort_keys=True, default=str)
    return deployment.options(version=hashlib.sha256(text.encode()).hexdigest()[:16], _internal=True)

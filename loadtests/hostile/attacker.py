"""The attacker's process: `python -m loadtests.hostile.attacker NAME < target.json`. Prints what he got, as JSON.

A process of its own, behind all others: what the machine is busy with then is the product's work, not his.
"""

import asyncio
import json
import os
import resource
import sys

from loadtests.hostile.attacks import ATTACKS
from loadtests.hostile.wire import Mallory, Target


def main(name: str) -> int:
    os.nice(19)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    (attack,) = [one for one in ATTACKS if one.name == name]
    mallory = Mallory(Target.read(sys.stdin.read()))
    asyncio.run(attack.run(mallory))
    print(json.dumps(mallory.tally))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

"""One attack after the other beside a bystander, and what became of everybody."""

import collections
import contextlib
import json
import math
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace

from loadtests.batches.server import DrillError
from loadtests.hostile.attack import Attack
from loadtests.hostile.judged import KEPT_BYTES, Found, Quiet, growth, longest_lag, restarted
from loadtests.hostile.product import MODEL, HostileServer, Vitals
from loadtests.hostile.samples import Samples, first_tokens, p50, percentile
from loadtests.hostile.wire import Target
from loadtests.runs import ROOT

ATTACKER, SAME_ADDRESS = "127.0.0.2", "127.0.0.1"
CALM_S = 60.0
"""All must be as before so long after an attack's end."""
_SETTLE_S = 1.5
_FILES = 64


class Drill:
    """say: progress. quiet: filled by `listen`, before anything is attacked."""

    def __init__(self, server: HostileServer, samples: Samples, say: Callable[[str], None]) -> None:
        self._server = server
        self._samples = samples
        self._say = say
        self._quiet_times: list[float] = []
        self.quiet = Quiet(0.0, 0.0, 0.0, 0.0)

    def listen(self, seconds: float) -> None:
        """The bystander alone; later times are added to the earlier ones. Raises DrillError where he fails even so."""
        before, began, busy = self._server.vitals(), time.monotonic(), 0.0
        time.sleep(seconds)
        ended = time.monotonic()
        for _ in range(5):
            busy = max(busy, self._server.vitals().in_flight)
            time.sleep(0.2)
        samples = self._samples.between(began, ended)
        if failed := [one for one in samples if one.failure]:
            raise DrillError(f"without any attack: {failed[0].kind}: {failed[0].failure}")
        times, void = first_tokens(samples)
        if not times or void > len(times):
            raise DrillError("the machine is too busy: the bystander itself is late")
        lag = longest_lag(before, self._server.vitals())
        self._quiet_times = sorted(self._quiet_times + times)
        self.quiet = Quiet(
            p50(self._quiet_times),
            percentile(self._quiet_times, 0.99),
            max(lag, self.quiet.lag),
            max(busy, self.quiet.in_flight),
        )

    def forget(self) -> None:
        """What was heard so far: the first answers warm the product up."""
        self._quiet_times, self.quiet = [], Quiet(0.0, 0.0, 0.0, 0.0)

    def suffer(self, attack: Attack) -> Found:
        """Make it, wait until all is as before, and look. Made again where memory grew: does it grow again?"""
        found = self._suffer_once(attack)
        if large := [name for name, bytes in found.grown.items() if bytes > KEPT_BYTES]:
            self._say(f"{attack.name}: once more, since {', '.join(large)} grew")
            again = self._suffer_once(attack)
            kept = [name for name in large if again.grown.get(name, 0) > max(KEPT_BYTES, found.grown[name] / 2)]
            found = replace(found, kept=kept)
        return found

    def _suffer_once(self, attack: Attack) -> Found:
        canary = f"Zephyrine-{secrets.token_hex(4)}"
        before, began = self._server.vitals(), time.monotonic()
        got = self._attack(attack, canary)
        over = time.monotonic()
        calm = self._until_calm(attack, before)
        time.sleep(_SETTLE_S)
        after, samples = self._server.vitals(), self._samples.between(began, time.monotonic())
        failures = collections.Counter(f"{one.kind}: {one.failure}" for one in samples if one.failure)
        times, void = first_tokens([one for one in samples if began <= one.began <= over])
        return Found(
            attack,
            got,
            failures,
            requests=len(samples),
            p50=p50(times),
            p99=percentile(times, 0.99),
            counted=len(times),
            void=void,
            lag=longest_lag(before, after),
            grown=growth(before, after),
            restarted=restarted(before, after),
            calm_s=calm,
            stored=after.stored - before.stored,
            leaked=self._server.logs_with(canary),
        )

    def _attack(self, attack: Attack, canary: str) -> dict[str, int]:
        keys, server = self._server.keys, self._server
        target = Target(
            "127.0.0.1",
            server.port,
            MODEL,
            keys["mallory"],
            keys["bound"],
            SAME_ADDRESS if attack.same_address else ATTACKER,
            attack.seconds,
            canary,
            server.side_ports,
            server.foreign,
        )
        words = [sys.executable, "-m", "loadtests.hostile.attacker", attack.name]
        done = subprocess.run(
            words,
            cwd=ROOT,
            input=json.dumps(asdict(target)),
            capture_output=True,
            text=True,
            timeout=attack.seconds + 120,
            check=False,
        )
        if done.returncode:
            raise DrillError(f"the attacker of '{attack.name}' fell over: {done.stderr.strip()[-800:]}")
        return dict(json.loads(done.stdout))

    def _until_calm(self, attack: Attack, before: Vitals) -> float:
        """Seconds from the attack's end until the bystander is served as before and nothing of the attack is left."""
        over = time.monotonic()
        while time.monotonic() - over < CALM_S:
            began = time.monotonic()
            if self._is_calm(attack, before, over):
                return began - over
            time.sleep(0.25)
        return math.inf

    def _is_calm(self, attack: Attack, before: Vitals, over: float) -> bool:
        latest = self._samples.last("stream", 3)
        if len(latest) < 3 or any(one.failure or (one.first or 0.0) > self.quiet.limit for one in latest):
            return False
        if latest[0].began < over - 1.0:
            return False
        if not attack.same_address and self._server.connections_from(ATTACKER):
            return False
        with contextlib.suppress(DrillError):
            now = self._server.vitals()
            opened = {name: count for name, count in now.files.items() if count > before.files.get(name, 0) + _FILES}
            return not opened and now.in_flight <= self.quiet.in_flight + 2
        return False

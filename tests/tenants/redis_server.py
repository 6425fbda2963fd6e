"""A real Redis in a folder of its own, which tests can kill, stop for a while and bring back."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import redis

_START_SECONDS = 10.0


def installed() -> bool:
    return shutil.which("redis-server") is not None


class RedisServer:
    """Keeps nothing on disk. Start with `start`, end with `stop`; in between the address stays the same.

    words: more of its configuration, such as `--requirepass`. certificate: a file with a certificate and its key; `url`
    is then TLS. url, socket_url: the same server by TCP and by a socket.
    """

    def __init__(self, *words: str, certificate: Path | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._folder = Path(tempfile.mkdtemp(prefix="redis-"))  # short: a socket's path has 107 characters at most
        self._words = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(self._folder), *words]
        self._words += ["--unixsocket", str(self._folder / "socket")]
        self._process: subprocess.Popen[bytes] | None = None
        if certificate is None:
            self.url = f"redis://127.0.0.1:{self.port}"
            self._words += ["--port", str(self.port)]
        else:
            self.url = f"rediss://127.0.0.1:{self.port}?ssl_ca_certs={certificate}"
            self._words += ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
            for use in ("cert", "key", "ca-cert"):
                self._words += [f"--tls-{use}-file", str(certificate)]
        self.socket_url = f"unix://{self._folder}/socket"

    def start(self) -> None:
        self._process = subprocess.Popen(["redis-server", *self._words], stdout=subprocess.DEVNULL)
        end = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("redis-server did not start")
            time.sleep(0.01)

    def kill(self) -> None:
        """Away at once, and its data with it."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(_START_SECONDS)

    def restart(self) -> None:
        self.kill()
        self.start()

    def pause(self) -> None:
        """It takes connections and commands and answers none, until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """For good."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.socket_url, decode_responses=True)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _answers(self) -> bool:
        with self.client() as client:
            try:
                client.ping()
            except redis.AuthenticationError:
                return True
            except redis.ConnectionError:
                return False
            return True

"""An image built without Docker (buildah, on a base that debootstrap makes) and run without it (crun), as root.

crun is told what a restricted pod tells Kubernetes: the image's own user, no capabilities, no new privileges, a root
that cannot be written to. Its network is the machine's.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TOOLS = ("buildah", "debootstrap", "crun", "unshare")
RELEASE = "bookworm"
"""Debian 12: its python3 is 3.11, which the product supports."""


def missing_tools() -> list[str]:
    return [tool for tool in TOOLS if shutil.which(tool) is None]


@dataclass(frozen=True)
class Builder:
    """buildah with a store of its own below `folder`. `remove` takes some ten gigabytes away."""

    folder: Path

    @cached_property
    def environment(self) -> dict[str, str]:
        store = self.folder / "storage.conf"
        store.write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{self.folder / "store"}"\nrunroot = "{self.folder / "run"}"\n'
        )
        return os.environ | {"CONTAINERS_STORAGE_CONF": str(store), "BUILDAH_ISOLATION": "chroot", "BUILDER": "buildah"}

    def base(self, name: str) -> None:
        """The smallest Debian with Python, as an image."""
        tree = self.folder / "debian"
        packages = "python3,python3-venv,ca-certificates"
        run(["debootstrap", "--variant=minbase", f"--include={packages}", RELEASE, str(tree)], self.folder)
        # Not ADD: the tree is moved once as it is, with its owners and links.
        container = self.buildah("from", "scratch")
        mounted = self.buildah("mount", container)
        run(["cp", "--archive", f"{tree}/.", mounted], self.folder)
        self.buildah("commit", "--rm", "--quiet", container, name)
        shutil.rmtree(tree)

    def build(self, kind: str, name: str, *options: str) -> None:
        """As `make image` does, with pip configured as it is here."""
        pip, volumes = pip_configuration()
        (self.folder / "pip.conf").write_text(pip)
        reached = [option for path in volumes for option in ("--volume", f"{path}:{path}:ro")]
        command = ["bash", "deploy/images/build.sh", kind, name, "--network", "host", *reached, *options]
        run(command, ROOT, self.environment | {"PIP_CONF": str(self.folder / "pip.conf")})

    def tree(self, name: str) -> Path:
        """A container's root file system, of that image."""
        return Path(self.buildah("mount", self.buildah("from", name)))

    def configuration(self, name: str) -> dict[str, Any]:
        """Env, Entrypoint, Cmd, User, Labels and so on."""
        found: dict[str, Any] = json.loads(self.buildah("inspect", "--type", "image", name))["OCIv1"]["config"]
        return found

    def buildah(self, *arguments: str) -> str:
        return run(["buildah", *arguments], self.folder, self.environment).strip()

    def remove(self) -> None:
        subprocess.run(["buildah", "rm", "--all"], env=self.environment, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class Container:
    """An image's file system that runs as the image says, locked down. `mounts`: by their place inside."""

    tree: Path
    configuration: dict[str, Any]
    folder: Path
    mounts: dict[str, Path]
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, *arguments: str, entrypoint: list[str] | None = None) -> subprocess.Popen[str]:
        """Its output comes from `stdout`; SIGTERM ends it."""
        command = [*(self.configuration["Entrypoint"] if entrypoint is None else entrypoint), *arguments]
        self.folder.mkdir(exist_ok=True)
        (self.folder / "config.json").write_text(json.dumps(self._specification(command)))
        # crun refuses machines with both kinds of cgroups, as if it needed them: it sees none.
        name = f"{self.folder.name}-{os.getpid()}"
        script = (
            "mount --make-rprivate / && umount -R /sys/fs/cgroup && mount -t tmpfs none /sys/fs/cgroup && "
            f"exec crun --cgroup-manager=disabled run --bundle {shlex.quote(str(self.folder))} {name}"
        )
        return subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def ask(self, *command: str) -> str:
        """Run a command inside to its end; what it printed. Raises CalledProcessError."""
        process = self.start(*command, entrypoint=[])
        output, _ = process.communicate(timeout=120)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command, output)
        return output.strip()

    def _specification(self, command: list[str]) -> dict[str, Any]:
        user, group = (int(number) for number in self.configuration["User"].split(":"))
        scratch = ["nosuid", "nodev", "mode=1777"]
        own = ["nosuid", "nodev", f"uid={user}", f"gid={group}", "mode=0700"]
        mounts = [
            mount("/proc", "proc", []),
            mount("/sys", "bind", ["rbind", "ro"], "/sys"),  # vLLM on CPUs asks there for cores and NUMA nodes
            mount("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755"]),
            mount("/dev/shm", "tmpfs", [*scratch, "noexec", "size=512m"]),
            mount("/tmp", "tmpfs", scratch),
            mount("/home/clinserve", "tmpfs", own),
            *(mount(place, "bind", ["rbind", "rw"], str(path)) for place, path in self.mounts.items()),
            mount("/etc/hosts", "bind", ["rbind", "ro"], "/etc/hosts"),
        ]
        return {
            "ociVersion": "1.0.2",
            "process": {
                "args": command,
                "cwd": self.configuration.get("WorkingDir") or "/",
                "env": [*self.configuration["Env"], *(f"{name}={value}" for name, value in self.environment.items())],
                "user": {"uid": user, "gid": group},
                "capabilities": {kind: [] for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")},
                "noNewPrivileges": True,
            },
            "root": {"path": str(self.tree), "readonly": True},
            "hostname": "clinserve",
            "mounts": mounts,
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]},
        }


def mount(place: str, kind: str, options: list[str], source: str | None = None) -> dict[str, Any]:
    return {"destination": place, "type": kind, "source": source or kind, "options": options}


def pip_configuration() -> tuple[str, list[Path]]:
    """This machine's as a pip.conf, from files or the environment; and the local paths that it names."""
    listed = run([sys.executable, "-m", "pip", "config", "list"], ROOT)
    options: dict[str, str] = {}
    for line in listed.splitlines():
        name, value = line.split("=", 1)
        options[name.split(".")[-1]] = value.strip("'").replace("\\n", "\n")  # the environment's come last and win
    options = {name: value for name, value in options.items() if name not in ("require-virtualenv", "user")}
    words = [word for value in options.values() for word in value.split()]
    indexes = {
        Path(word.removeprefix("file://")).parent for word in words if word.startswith("file:///")
    }  # and its files
    paths = sorted({Path(word) for word in words if word.startswith("/") and Path(word).exists()} | indexes)
    text = "".join(f"{name} = {' '.join(value.split())}\n" for name, value in options.items())
    return f"[global]\n{text}", paths


def run(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done.stdout

"""The one way to a gateway in tests: `site(...)` on an echo engine, an engine of the test's own, or any settings."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from serving import app as assembly
from serving import settings as config
from serving.engines.engine import Engine
from serving.engines.http import Endpoints
from serving.gateway.app import create_app
from serving.gateway.catalog import Catalog
from serving.gateway.fleet import Fleet
from serving.gateway.middleware import RequestId, UntilClientLeaves
from serving.routing.router import Router
from serving.tenants.limits import PolicyBook
from tests import azurite as emulator
from tests.azurite import Azurite
from tests.local import Site, Tree

OpenSite = Callable[..., Site]

hypothesis.settings.register_profile("busy machine", deadline=None, database=None)
hypothesis.settings.load_profile("busy machine")


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A state directory with a migrated database and a key in it, to be copied; and the key."""
    state = tmp_path_factory.mktemp("installed")
    with assembly.open_office(settings_of(state)) as office:
        office.administration.ensure_tenant("ward")
    _, secret = assembly.build_keyring(settings_of(state)).mint("ward", "tests")
    return state, secret.reveal()


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """One that runs; drills that take it away start their own."""
    yield from running(Azurite)


@pytest.fixture(scope="session")
def azurite_over_tls() -> Iterator[Azurite]:
    yield from running(lambda: Azurite(tls=True))


@pytest.fixture
def azurite_of_my_own() -> Iterator[Azurite]:
    yield from running(Azurite)


def running(new: Callable[[], Azurite]) -> Iterator[Azurite]:
    """On a machine without Node.js or Azurite a skip says so; in CI it is a failure."""
    if problem := emulator.missing():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{problem}: make setup-dev installs it")
    server = new()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def site(tmp_path: Path, installed: tuple[Path, str]) -> OpenSite:
    """site(): one deployment `echo`. site(echo=..., limits=..., model=...) configures it, site(server=..., ...) a
    section; site(engine=...) puts an engine of the test's own in its place.
    """
    template, key = installed

    def open_site(engine: Engine | None = None, fleet: Fleet | None = None, **changes: Any) -> Site:
        state = tmp_path / "state"
        shutil.copytree(template, state, dirs_exist_ok=True)
        return site_of(settings_of(state, **changes), key, engine=engine, fleet=fleet)

    return open_site


def site_of(settings: config.Settings, key: str, *, engine: Engine | None = None, fleet: Fleet | None = None) -> Site:
    parts = assembly.build_parts(settings, no_replicas, fleet=fleet)
    for part in parts.background:
        if isinstance(part, PolicyBook):
            part.refresh()  # as the lifespan does, which most tests do without
    if engine is not None:
        (deployment,) = parts.catalog
        catalog = Catalog([replace(deployment, engine=engine)], created=parts.catalog.created)
        assembly.followed_by(catalog, settings.deployments[0])
        parts = replace(parts, catalog=catalog)
    return Site(UntilClientLeaves(RequestId(create_app(parts))), settings, key)


def settings_of(
    state: Path, *, echo: Tree | None = None, limits: Tree | None = None, model: Tree | None = None, **sections: Any
) -> config.Settings:
    deployment = {
        "name": "echo",
        "engine": {"kind": "echo"} | (echo or {}),
        "limits": limits or {},
        "model": model or {},
    }
    server = {"runtime": "process", "state_dir": state} | sections.pop("server", {})
    # No port of its own, and each scrape worked out: tests run side by side, and look before and after.
    metrics = {"metrics_port": 0, "metrics_interval": 0}
    telemetry = metrics | sections.pop("telemetry", {"request_log": "file"})
    return config.parse({"server": server, "telemetry": telemetry, "deployments": [deployment]} | sections)


def no_replicas(deployment: str, router: Router) -> Endpoints:
    raise LookupError(deployment)

"""The secrets of an installation: made once, kept private, one for each purpose."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from serving.secret_versions import VersionedSecret
from serving.secrets import AdministrationSecrets, NoVault, Secrets, SecretsError, SecretSource

REQUIRED = {"pepper", "engine", "cache_salt", "content", "audit", "signing"}
ENVIRON = {
    "CLINSERVE_PEPPER": "p",
    "CLINSERVE_ENGINE_SECRET": "e",
    "CLINSERVE_CACHE_SALT": "c",
    "CLINSERVE_CONTENT_SECRET": "t",
    "CLINSERVE_AUDIT_SECRET": "a",
    "CLINSERVE_AUDIT_SIGNING_KEY": "ab" * 32,
    "CLINSERVE_DATABASE_PASSWORD": "d",
    "CLINSERVE_REDIS_PASSWORD": "r",
}
GIVEN = Secrets(*(VersionedSecret.of(text) for text in ("p", "e", "c", "t", "a", "ab" * 32)), "d", "r")


class MemoryVault:
    """A vault at hand."""

    def __init__(self, **secrets: str) -> None:
        self.secrets = {name.replace("_", "-"): value for name, value in secrets.items()}

    def get(self, name: str) -> str | None:
        return self.secrets.get(name)

    def place_of(self, name: str) -> str | None:
        return f"{name} in memory"


def test_secrets_are_made_once_and_then_kept(tmp_path: Path) -> None:
    first = Secrets.load(tmp_path, {})
    assert Secrets.load(tmp_path, {}) == first
    texts = {secret.writing.value for secret in first.versioned().values()}
    assert len(texts) == 6 and {len(text) for text in texts} == {64}


def test_passwords_are_never_made(tmp_path: Path) -> None:
    secrets = Secrets.load(tmp_path, {})
    assert (secrets.database_password, secrets.redis_password) == ("", "")


def test_two_installations_share_no_secret(tmp_path: Path) -> None:
    one, other = Secrets.load(tmp_path / "a", {}), Secrets.load(tmp_path / "b", {})
    assert one.pepper != other.pepper and one.engine != other.engine and one.salt_of("x") != other.salt_of("x")


def test_their_files_are_their_owners_only(tmp_path: Path) -> None:
    Secrets.load(tmp_path, {})
    folder = tmp_path / "secrets"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()} == dict.fromkeys(REQUIRED, 0o600)


def test_the_environment_wins_and_needs_no_file(tmp_path: Path) -> None:
    assert Secrets.load(tmp_path / "state", ENVIRON) == GIVEN
    assert not (tmp_path / "state").exists()


def test_files_do_as_kubernetes_and_key_vault_mount_them_with_or_without_a_lines_end(tmp_path: Path) -> None:
    environ = {}
    for number, (variable, value) in enumerate(ENVIRON.items()):
        (tmp_path / variable).write_text(value + ["", "\n", "\r\n"][number % 3])
        environ[f"{variable}_FILE"] = str(tmp_path / variable)
    assert Secrets.load(tmp_path / "state", environ) == GIVEN
    assert not (tmp_path / "state").exists()


def test_only_the_last_lines_end_is_cut(tmp_path: Path) -> None:
    (tmp_path / "p").write_text(" p \n\n")
    assert Secrets.load(tmp_path, {"CLINSERVE_PEPPER_FILE": str(tmp_path / "p")}).pepper.writing.text == " p \n"


def test_environment_then_file_then_vault(tmp_path: Path) -> None:
    (tmp_path / "e").write_text("from the file")
    environ = ENVIRON | {"CLINSERVE_ENGINE_SECRET_FILE": str(tmp_path / "e")}
    vault = MemoryVault(engine_secret="from the vault", cache_salt="from the vault\n")
    assert Secrets.load(tmp_path, environ, vault) == GIVEN
    del environ["CLINSERVE_ENGINE_SECRET"], environ["CLINSERVE_CACHE_SALT"]
    secrets = Secrets.load(tmp_path, environ, vault)
    assert (secrets.engine.writing.text, secrets.cache_salt.writing.text) == ("from the file", "from the vault")


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), (b"", "empty"), (b"\xff", "not UTF-8")])
def test_a_file_that_was_named_and_cannot_be_used_is_an_error_and_nothing_is_made(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    if content is not None:
        (tmp_path / "p").write_bytes(content)
    with pytest.raises(SecretsError, match=rf"CLINSERVE_PEPPER_FILE: {tmp_path / 'p'}.*{reason}"):
        Secrets.load(tmp_path / "state", {"CLINSERVE_PEPPER_FILE": str(tmp_path / "p")}, NoVault())
    assert not (tmp_path / "state").exists()


def test_what_a_vault_lacks_is_not_made(tmp_path: Path) -> None:
    vault = MemoryVault(pepper="p", engine_secret="e", cache_salt="c", content_secret="t", audit_signing_key="ab" * 32)
    with pytest.raises(SecretsError, match=r"audit-secret in memory .* set CLINSERVE_AUDIT_SECRET"):
        Secrets.load(tmp_path / "state", {}, vault)
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("text", ["ab" * 31, "zz" * 32, "not a key"])
def test_a_signing_key_that_is_none_is_named_but_not_quoted(tmp_path: Path, text: str) -> None:
    with pytest.raises(SecretsError, match="CLINSERVE_AUDIT_SIGNING_KEY") as wrong:
        Secrets.load(tmp_path, ENVIRON | {"CLINSERVE_AUDIT_SIGNING_KEY": text})
    assert text not in str(wrong.value)


def test_files_that_are_there_need_no_right_to_write(tmp_path: Path) -> None:
    made = Secrets.load(tmp_path, {})
    (tmp_path / "secrets").chmod(0o500)
    written = (tmp_path / "secrets").stat().st_mtime_ns
    assert Secrets.load(tmp_path, {}) == made
    assert (tmp_path / "secrets").stat().st_mtime_ns == written  # root may write anywhere


def test_a_state_directory_that_cannot_be_written_is_named_with_the_remedy() -> None:
    with pytest.raises(SecretsError, match=r"/sys/clinserve/secrets/pepper cannot be made: .* set CLINSERVE_PEPPER or"):
        Secrets.load(Path("/sys/clinserve"), {})


def test_an_engine_that_was_given_its_own_secret_alone_misses_none_and_makes_none(tmp_path: Path) -> None:
    source = SecretSource(tmp_path / "state", {"CLINSERVE_ENGINE_SECRET": "e"}, NoVault())
    assert source.required("engine") == "e"
    assert not (tmp_path / "state").exists()


def test_administration_asks_for_what_it_works_with_and_for_nothing_else(tmp_path: Path) -> None:
    names = ("PEPPER", "AUDIT_SECRET", "AUDIT_SIGNING_KEY")
    given = {f"CLINSERVE_{name}": ENVIRON[f"CLINSERVE_{name}"] for name in names}
    made = AdministrationSecrets.load(SecretSource(tmp_path / "state", given, NoVault()))
    assert made == AdministrationSecrets(*(VersionedSecret.of(text) for text in ("p", "a", "ab" * 32)))
    assert not (tmp_path / "state").exists() and "ab" * 32 not in repr(made)


def test_an_empty_variable_is_none(tmp_path: Path) -> None:
    assert len(Secrets.load(tmp_path, {"CLINSERVE_ENGINE_SECRET": ""}).engine.writing.text) == 64


def test_they_do_not_show_when_printed(tmp_path: Path) -> None:
    secrets = Secrets.load(tmp_path, {})
    printed = f"{secrets} {secrets!r} {secrets.pepper} {secrets.pepper.writing!r}"
    assert not any(secret.writing.text in printed for secret in secrets.versioned().values())


def test_those_that_start_at_once_agree_and_leave_nothing_else_behind(tmp_path: Path) -> None:
    made: list[Secrets] = []
    threads = [threading.Thread(target=lambda: made.append(Secrets.load(tmp_path, {}))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8 and len({(secrets.engine, secrets.signing) for secrets in made}) == 1
    assert {file.name for file in (tmp_path / "secrets").iterdir()} == REQUIRED

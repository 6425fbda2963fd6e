"""What a reload replaces, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serving.commands.reload import reload
from serving.commands.rollout import CannotReload, Notes, plan_of
from serving.settings import Settings, parse


def settings(*deployments: dict[str, Any], **server: Any) -> Settings:
    echo = {"kind": "echo", "place": "replicas"}
    return parse({"server": server, "deployments": [{"engine": echo} | one for one in deployments]})


NOTES, LETTERS = {"name": "notes"}, {"name": "letters"}


def test_nothing_is_replaced_where_nothing_differs() -> None:
    plan = plan_of(settings(NOTES), settings(NOTES))
    assert not plan.engines and not plan.gateway and not plan.gone
    assert plan.words == "nothing has changed"


def test_a_deployment_that_differs_and_the_gateway_and_no_other() -> None:
    plan = plan_of(settings(NOTES, LETTERS), settings(NOTES, LETTERS | {"replicas": 2}))
    assert [d.name for d in plan.engines] == ["letters"] and plan.gateway and not plan.gone


def test_a_deployment_that_is_new_and_one_that_goes() -> None:
    plan = plan_of(settings(NOTES), settings(LETTERS))
    assert [d.name for d in plan.engines] == ["letters"] and plan.gone == ("notes",)
    assert plan.words == "letters, gateway, -notes"


def test_what_is_named_is_replaced_although_nothing_differs() -> None:
    plan = plan_of(settings(NOTES, LETTERS), settings(NOTES, LETTERS), ["notes"])
    assert [d.name for d in plan.engines] == ["notes"] and not plan.gateway
    assert plan_of(settings(NOTES), settings(NOTES), ["gateway"]).gateway


def test_a_name_that_has_no_replicas_is_refused() -> None:
    with pytest.raises(CannotReload, match="'ward' has no replicas of its own; there are notes"):
        plan_of(settings(NOTES), settings(NOTES), ["ward"])


def test_where_the_server_listens_cannot_change_while_it_runs() -> None:
    with pytest.raises(CannotReload, match=r"server\.port only changes"):
        plan_of(settings(NOTES), settings(NOTES, port=9000))


def test_without_a_server_there_is_nothing_to_reload(tmp_path: Path) -> None:
    with pytest.raises(CannotReload, match="no server runs"):
        reload(tmp_path, (), timeout=1)


def test_a_note_is_answered_to_whoever_left_it(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    notes.begin()
    id = notes.ask(["notes"])
    assert notes.answered(id) is None
    request = notes.taken()
    assert request["restart"] == ["notes"] and notes.taken() == {}
    notes.answer(request, {"ok": True, "message": "notes"})
    assert notes.answered(id) == {"id": id, "ok": True, "message": "notes"} and notes.answered("other") is None
    notes.end()
    assert notes.server() is None

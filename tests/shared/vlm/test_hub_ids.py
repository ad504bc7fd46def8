"""A hub id that names no model is told before any work is done for it."""

from __future__ import annotations

import pytest

from shared.errors import InfiMmrError
from shared.vlm.checkpoint import check_hub_id
from shared.vlm.spec import EngineSpec


def test_a_model_that_the_hub_does_not_have_is_refused_by_name(hub, monkeypatch):
    hub.place("our/gated", {"config.json": b"{}"}, "model")
    hub.gated.add("our/gated")
    hub.place("our/model", {"config.json": b"{}"}, "model")
    with pytest.raises(InfiMmrError, match=r"the hub has no model our/nope at revision main.*Check the id"):
        check_hub_id(EngineSpec(model="our/nope"))
    with pytest.raises(InfiMmrError, match=r"model our/model has no revision v9"):
        check_hub_id(EngineSpec(model="our/model", revision="v9"))
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises(
        InfiMmrError, match=r"our/gated is gated.*Accept its terms at http://.*/our/gated, then set HF_TOKEN"
    ):
        check_hub_id(EngineSpec(model="our/gated"))
    monkeypatch.setenv("HF_TOKEN", "hf_" + "wrong" * 6)
    with pytest.raises(InfiMmrError, match=r"does not accept this machine's token"):
        check_hub_id(EngineSpec(model="our/model"))


def test_a_model_of_the_hub_the_bundled_one_and_an_endpoint_pass(hub, tmp_path):
    for name in ("our/model", "our/gated"):
        hub.place(name, {"config.json": b"{}"}, "model")
    hub.gated.add("our/gated")
    for spec in (
        EngineSpec(model="our/model"),
        EngineSpec(model="our/gated"),  # this machine's token is of an account that accepted the terms
        EngineSpec(model="tiny-vl"),
        EngineSpec(model=str(tmp_path)),
        EngineSpec(model="served-as-this", endpoint="http://127.0.0.1:1/v1"),
    ):
        assert check_hub_id(spec) == ""


def test_a_hub_that_does_not_answer_is_said_and_refuses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert check_hub_id(EngineSpec(model="our/nope")) == (
        "model our/nope at revision main is not on this machine, and the hub does not answer at http://127.0.0.1:9"
    )

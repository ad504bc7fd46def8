"""A hub id that names no model is told before any work is done for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from shared.errors import InfiMmrError
from shared.vlm.checkpoint import check_hub_id
from shared.vlm.spec import EngineSpec


class Hub(BaseHTTPRequestHandler):
    """A hub that has one model, answers one as gated, and knows no other."""

    def do_GET(self) -> None:
        name = self.path.removeprefix("/api/models/").split("/revision/")[0]
        code = {"our/model": 200, "our/gated": 403}.get(name, 404)
        self.send_response(code)
        if code == 403:
            self.send_header("X-Error-Code", "GatedRepo")
        if code == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps({"id": name, "modelId": name, "siblings": [], "tags": []}).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    server.server_close()


def test_a_model_that_the_hub_does_not_have_is_refused_by_name(hub):
    with pytest.raises(InfiMmrError, match=r"the hub has no model our/nope at revision main.*Check the id"):
        check_hub_id(EngineSpec(model="our/nope"))
    with pytest.raises(InfiMmrError, match=r"our/gated is gated. Ask for access"):
        check_hub_id(EngineSpec(model="our/gated"))


def test_a_model_of_the_hub_the_bundled_one_and_an_endpoint_pass(hub, tmp_path):
    for spec in (
        EngineSpec(model="our/model"),
        EngineSpec(model="tiny-vl"),
        EngineSpec(model=str(tmp_path)),
        EngineSpec(model="served-as-this", endpoint="http://127.0.0.1:1/v1"),
    ):
        assert check_hub_id(spec) == ""


def test_a_hub_that_does_not_answer_is_said_and_refuses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", "http://127.0.0.1:9")
    assert check_hub_id(EngineSpec(model="our/nope")) == (
        "our/nope at revision main is not on this machine, and the hub does not answer"
    )

"""A stand-in for an OpenAI-compatible server on loopback: it answers by rule and counts, and is no model.

The answer to a chat is a hash of its messages, so that any client that sends the same gets the same, or what `say`
makes of the request where it makes something.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class StandIn:
    """Serves `/v1/chat/completions` and `/v1/embeddings`; after `break_after` requests it refuses the key."""

    def __init__(
        self,
        *,
        key: str = "",
        model: str = "standin",
        seconds: float = 0.0,
        say: Callable[[dict[str, Any]], str] | None = None,
        tokens: int = 3,
    ) -> None:
        self.break_after: int | None = None
        self._say, self._tokens = say, tokens
        self.requests: list[dict[str, Any]] = []
        self.most_at_once = 0
        self.statuses: dict[str, list[int]] = {}
        self.answers: dict[str, str] = {}
        self.on_request: Any = None
        self._at_once = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with outer._lock:
                    outer.requests.append(body)
                    outer._at_once += 1
                    outer.most_at_once = max(outer.most_at_once, outer._at_once)
                    number = len(outer.requests)
                try:
                    if outer.on_request is not None:
                        outer.on_request(number)
                    time.sleep(seconds)
                    broken = outer.break_after is not None and number > outer.break_after
                    authorised = not broken and (not key or self.headers.get("authorization") == f"Bearer {key}")
                    self._reply(*outer._answer(self.path, body, model, authorised=authorised))
                finally:
                    with outer._lock:
                        outer._at_once -= 1

            def _reply(self, status: int, made: dict[str, Any]) -> None:
                data = json.dumps(made).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, path: str, body: dict[str, Any], model: str, *, authorised: bool) -> tuple[int, dict[str, Any]]:
        text = json.dumps(body["messages"], sort_keys=True)
        if not authorised:
            return 401, {"error": "no such key"}
        if body["model"] != model:
            return 404, {"error": f"no model {body['model']}"}
        with self._lock:
            for word, statuses in self.statuses.items():
                if word in text and statuses:
                    return statuses.pop(0), {"error": "as the test asked"}
        digest = hashlib.sha256(text.encode()).hexdigest()
        if path.endswith("/embeddings"):
            vector = [float(int(digest[i : i + 2], 16) + 1) for i in range(0, 16, 2)]
            return 200, {"data": [{"embedding": vector}]}
        choices = body.get("structured_outputs", {}).get("choice")
        said = choices[int(digest, 16) % len(choices)] if choices else digest[:24]
        said = (self._say(body) if self._say is not None else "") or said
        said = next((answer for word, answer in self.answers.items() if word in text), said)
        usage = {"completion_tokens": self._tokens, "prompt_tokens": len(text) // 4}
        return 200, {"choices": [{"message": {"content": said}, "finish_reason": "stop"}], "usage": usage}

#!/usr/bin/env bash
# huggingface_hub 1.33.0: where the hub stops answering before a snapshot's files are fetched, `snapshot_download` of several
# files ends in an AttributeError ('NoneType' object has no attribute 'request') or a RuntimeError (client has been
# closed), and not in the LocalEntryNotFoundError that its documentation names and that one file gives.
# A reading of it: after a refused connection `http_backoff` closes the process's one httpx client, which the other
# threads are using. `shared/hub_download.py` asks one question first, and takes both for a lost network.
# Fails when three tries give neither, or when one file gives something else. Takes two minutes: the client waits 23 s a try.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet huggingface_hub==1.33.0
cat > "$folder/look.py" <<'PYTHON'
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "a" * 40


class Hub(BaseHTTPRequestHandler):
    def do_GET(self):
        files = [{"type": "file", "path": f"{n}.txt", "size": 1, "oid": "b" * 40} for n in range(8)]
        data = json.dumps(files).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ |= {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": sys.argv[1], "HF_HUB_VERBOSITY": "critical"}
os.environ |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
import huggingface_hub

huggingface_hub.snapshot_download("owner/name", revision=COMMIT, allow_patterns=["none"])  # lists the commit's files
server.shutdown()
server.server_close()
huggingface_hub.close_session()


def ends_in(patterns):
    try:
        huggingface_hub.snapshot_download("owner/name", revision=COMMIT, allow_patterns=patterns)
    except Exception as error:
        return type(error).__name__
    return "nothing"


one, several = ends_in(["0.txt"]), [ends_in(None) for _ in range(3)]
print("huggingface_hub", huggingface_hub.__version__)
print(f"one file: {one}; eight files: {', '.join(several)}")
sys.exit(one != "LocalEntryNotFoundError" or not {"AttributeError", "RuntimeError"} & set(several))
PYTHON
"$folder/venv/bin/python" "$folder/look.py" "$folder/home"

"""`trainer watch`: a run's page on loopback while it runs, and as a file afterwards."""

import http.client
import json
import shutil
import socket

import pytest
from typer import Typer
from typer.testing import CliRunner

from shared.errors import InfiMmrError
from trainer.report.cli import register
from trainer.report.watch import SECONDS, watching


@pytest.fixture
def run(curriculum, tmp_path):
    return shutil.copytree(curriculum / "1-fra", tmp_path / "fra")


def get(server, path="/", method="GET", **headers):
    asked = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    asked.request(method, path, headers=headers)
    answer = asked.getresponse()
    return answer, answer.read().decode()


def test_the_page_follows_the_run_and_asks_again_until_it_has_ended(run):
    with watching(run, 0) as server:
        answer, text = get(server)
        assert answer.status == 200
        assert answer.headers["Refresh"] == str(SECONDS)
        assert "61 steps" not in text
        lines = (run / "metrics.jsonl").read_text().splitlines()
        line = {**json.loads(lines[-1]), "step": 61}
        (run / "metrics.jsonl").write_text("\n".join([*lines, json.dumps(line)]) + "\n")
        assert "61 steps" in get(server)[1]
        record = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps({**record, "checkpoint_sha256": "c" * 64}))
        assert get(server)[0].headers["Refresh"] is None
        assert "61 steps" in (run / "watch.html").read_text()
        with (run / "metrics.jsonl").open("a") as metrics:
            metrics.write(json.dumps({**line, "step": 62}) + "\n")
    assert "62 steps" in (run / "watch.html").read_text(), "the file is left as the run is at the end"


def test_the_page_shows_rollouts_with_pictures_rewards_by_answer_type_and_the_time_of_each_part(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line["by_kind"] = {"integer": {"rollouts": 3, "reward": 0.5}, "<b>": {"rollouts": 1, "reward": 0.25}}
        line |= {"seconds": 7.0, "seconds_generation": 4.0, "seconds_update": 2.0 + line["step"] % 2}
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    with watching(run, 0) as server:
        text = get(server)[1]
    assert "Reward by kind of answer" in text
    assert "integer · 60 steps" in text
    assert "&lt;b&gt; · 60 steps" in text
    assert "Seconds of a step" in text
    assert '<img src="data:image/png;base64,' in text
    assert "<script>document.title" not in text


def test_only_the_page_is_served_and_only_to_this_address(run):
    with watching(run, 0) as server:
        assert get(server, "/../run.json")[0].status == 404
        assert get(server, "/run.json")[0].status == 404
        assert get(server, Host="evil.example:80")[0].status == 403
        assert get(server, Host=f"localhost:{server.port}")[0].status == 200
        answer, text = get(server, method="HEAD")
        assert (answer.status, text) == (200, "")
        assert get(server, method="POST")[0].status == 501


def test_a_folder_that_goes_away_is_told_in_the_browser(run):
    with watching(run, 0) as server:
        shutil.rmtree(run)
        answer, text = get(server)
    assert answer.status == 503
    assert "does not exist" in text


def test_an_occupied_port_and_a_wrong_folder_are_one_line(run, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InfiMmrError, match=f"port {port} cannot be listened on: address already in use"):
            watching(run, port).__enter__()
    app = Typer()
    register(app)
    done = CliRunner().invoke(app, ["watch", str(tmp_path / "nowhere")])
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert "does not exist" in done.stderr

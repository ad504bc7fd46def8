"""`trainer ask` as a user types it, against an OpenAI-compatible server on loopback, and what it refuses at once."""

import base64
import json
import re
import subprocess
import sys

import pytest
from typer import Typer
from typer.testing import CliRunner

from shared.answers import split_thinking
from shared.laptop import draw
from shared.vlm.checkpoint import BUNDLED_FOLDER
from trainer.after_training.ask import Reply, Screen, ask
from trainer.after_training.cli import register
from trainer.evaluation.asking import Settings

TEXT = "<think>2 and 3</think>\nSo \\boxed{5}"


@pytest.fixture
def server(new_standin):
    """Answers every question alike and keeps what was asked."""
    return new_standin(model="served", say=lambda _: TEXT, tokens=7)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(draw("mini-mathvista", 1).image_png)
    return path


def trainer(*words):
    return subprocess.run(
        [sys.executable, "-m", "trainer.cli", *map(str, words)], capture_output=True, text=True, check=False
    )


def refused(*words):
    """The one line of a command that fails before anything starts."""
    app = Typer()
    register(app)
    ran = CliRunner().invoke(app, [*map(str, words)])
    assert ran.exit_code in {1, 2}, ran.stderr
    assert ran.stderr.startswith("error: ")
    assert ran.stderr.count("\n") == 1, ran.stderr
    return ran.stderr


def test_an_answer_goes_to_stdout_and_the_thinking_to_stderr(server):
    ran = trainer("ask", "served", "What is 2 + 3?", "--endpoint", server.url)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "So \\boxed{5}\n"
    assert "2 and 3" in ran.stderr
    assert "answer: 5 (7 tokens)" in ran.stderr
    assert "<think>" not in ran.stdout + ran.stderr


def test_the_wait_for_the_first_word_is_told_with_the_time(server):
    words = ("ask", "served", "What is 2 + 3?", "--endpoint", server.url)
    assert re.match(r"\d\d:\d\d:\d\d asking http", trainer(*words).stderr)
    assert not trainer(*words, "--json").stderr


def test_json_holds_thinking_answer_text_and_tokens_and_a_list_where_samples_are_drawn(server):
    reply = {"thinking": "2 and 3", "answer": "5", "text": TEXT, "tokens": 7}
    ran = trainer("ask", "served", "What is 2 + 3?", "--endpoint", server.url, "--json")
    assert json.loads(ran.stdout) == reply
    ran = trainer("ask", "served", "What is 2 + 3?", "--endpoint", server.url, "--json", "--samples", "3")
    assert json.loads(ran.stdout) == [reply] * 3
    assert sorted((body["temperature"], body.get("seed")) for body in server.requests[1:]) == [(1, 1), (1, 2), (1, 3)]


def test_a_question_is_put_in_the_words_of_the_evaluation_with_its_pictures_where_they_stand(server, picture):
    settings = Settings.model_validate({"endpoint": server.url, "prompts": "bundled"})
    ask("served", "See <image> and <|im_end|>: how many?", [picture], settings=settings)
    system, user = server.requests[0]["messages"]
    assert system["content"].startswith("Think first inside <think>")
    assert [part["type"] for part in user["content"]] == ["text", "image_url", "text"]
    assert user["content"][2]["text"] == " and < |im_end| >: how many?"
    sent = user["content"][1]["image_url"]["url"].partition("base64,")[2]
    assert base64.b64decode(sent) == picture.read_bytes()


def test_a_wrong_folder_a_missing_or_broken_picture_and_a_tag_without_picture_are_one_line(tmp_path, picture):
    assert "does not exist" in refused("ask", tmp_path / "nowhere", "What?")
    (tmp_path / "empty").mkdir()
    assert "no config.json" in refused("ask", tmp_path / "empty", "What?")
    assert "b.png cannot be read" in refused("ask", "tiny-vl", "What?", "--image", tmp_path / "b.png")
    assert "empty is no file" in refused("ask", "tiny-vl", "What?", "--image", tmp_path / "empty")
    assert "/dev/zero is no file" in refused("ask", "tiny-vl", "What?", "--image", "/dev/zero")
    assert "is an address" in refused("ask", "tiny-vl", "What?", "--image", "https://a.org/b.png")
    broken = tmp_path / "broken.png"
    broken.write_bytes(picture.read_bytes()[:60])
    assert "broken.png cannot be used" in refused("ask", "tiny-vl", "What?", "--image", broken)
    assert "2 <image> tags, but 1 images" in refused("ask", "tiny-vl", "<image><image>", "--image", picture)
    assert "question is empty" in refused("ask", "tiny-vl", " ")


def test_a_text_only_checkpoint_with_a_picture_is_one_line(tmp_path, picture):
    folder = tmp_path / "text-only"
    folder.mkdir()
    config = json.loads((BUNDLED_FOLDER / "config.json").read_text())
    config.pop("vision_config")
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "model.safetensors"):
        (folder / name).symlink_to(BUNDLED_FOLDER / name)
    assert "text-only reads no images" in refused("ask", folder, "What?", "--image", picture)


def test_a_run_folder_stands_for_the_checkpoint_in_it(tmp_path, picture):
    folder = tmp_path / "run" / "checkpoint"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert "no safetensors" in refused("ask", tmp_path / "run", "What?")


def test_pieces_are_written_as_they_come_with_tags_cut_anywhere(capsys):
    screen = Screen(2)
    for sign in TEXT:
        screen.heard(0, sign)
    shown = capsys.readouterr()
    assert (shown.err, shown.out) == ("2 and 3\n", "So \\boxed{5}")
    screen.heard(1, "no tags\x1b[2J <")
    reply = Reply("", None, "", 3)
    screen.finish([reply, reply])
    shown = capsys.readouterr()
    assert shown.out == "\nno tags�[2J <\n"
    assert "no answer found (3 tokens)" in shown.err


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<think>a</think>b", ("a", "b")),
        ("<think>never closed", ("never closed", "")),
        ("a</think>b", ("a", "b")),
        ("plain", ("", "plain")),
    ],
)
def test_thinking_and_answer_are_told_apart(text, parts):
    assert split_thinking(text) == parts


def test_help_names_the_commands_that_follow_training():
    listed = trainer("--help").stdout
    assert [name for name in ("ask", "compare", "push", "serve") if f"  {name} " not in listed] == []

"""The page in a true browser: Debian's Chromium, headless, without network."""

import json
import re
import shutil
import subprocess

import pytest

from trainer.evaluation.items import load_items
from trainer.evaluation.run import evaluate_outputs
from trainer.report.build import build, render
from trainer.report.collect import collect
from trainer.report.compare import compare_runs
from trainer.report.compare import page as compare_page
from trainer.report.watch import watching

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH (apt-get install chromium)")

DRIVE = """
<script>
const out = {title: document.title, sections: Array.from(document.querySelectorAll("section[id]"), s => s.id)};
const visible = () => Array.from(document.querySelectorAll(".rollout:not([hidden])"));
const act = (id, value) => { const e = document.getElementById(id); e.value = value;
  e.dispatchEvent(new Event(id === "words" ? "input" : "change")); };
const images = Array.from(document.images);
images.forEach(image => { image.loading = "eager"; });
Promise.all(images.map(image => image.decode().catch(() => null))).then(() => {
  out.images = images.length;
  out.broken = images.filter(image => image.naturalWidth === 0).length;
  out.all = visible().length;
  act("verdict", "wrong");
  out.wrong = visible().map(row => row.dataset.verdict);
  act("run", "cmra");
  out.cmra = visible().map(row => row.dataset.run);
  act("verdict", ""); act("run", "");
  act("words", "no such words anywhere");
  out.none = visible().length;
  out.nothing = !document.getElementById("nothing").hidden;
  act("words", "");
  act("sort", "reward-up");
  out.up = visible().map(row => Number(row.dataset.reward));
  act("sort", "length-down");
  out.down = visible().map(row => Number(row.dataset.length));
  act("sort", "place");
  out.place = visible().map(row => Number(row.dataset.place));
  out.requests = performance.getEntriesByType("resource").filter(e => !e.name.startsWith("data:")).map(e => e.name);
  const pre = document.createElement("pre"); pre.id = "driven"; pre.textContent = JSON.stringify(out);
  document.body.append(pre);
});
</script>
"""


def browse(page, folder, *words):
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile",
               "--proxy-server=127.0.0.1:9", "--virtual-time-budget=20000", *words, page.as_uri()]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=True).stdout


@pytest.mark.timeout(300)
def test_the_page_opens_without_network_shows_pictures_filters_and_sorts(curriculum, tmp_path):
    page = tmp_path / "report.html"
    page.write_text(render(build(collect([curriculum], 24))).replace("</body>", DRIVE + "</body>"), encoding="utf-8")
    dom = browse(page, tmp_path, "--dump-dom")
    found = re.search(r'<pre id="driven">(.*?)</pre>', dom, re.DOTALL)
    assert found, dom[-2000:]
    seen = json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert seen["title"] == "Infi-MMR report"  # a model's <script> in a rollout did not run
    assert seen["sections"] == ["table", "deltas", "curves", "details", "rollouts"]
    assert (seen["images"], seen["broken"]) == (72, 0)
    assert seen["requests"] == []
    assert seen["all"] == 72
    assert 0 < len(seen["wrong"]) < 72
    assert set(seen["wrong"]) == {"wrong"}
    assert set(seen["cmra"]) == {"cmra"}
    assert (seen["none"], seen["nothing"]) == (0, True)
    assert seen["up"] == sorted(seen["up"])
    assert seen["down"] == sorted(seen["down"], reverse=True)
    assert seen["place"] == list(range(72))


PHONE = """
<script>
const images = Array.from(document.images);
images.forEach(image => { image.loading = "eager"; });
Promise.all(images.map(image => image.decode().catch(() => null))).then(() => {
  const out = {title: document.title, images: images.length, wide: document.documentElement.scrollWidth,
    broken: images.filter(image => image.naturalWidth === 0).length, window: window.innerWidth,
    requests: performance.getEntriesByType("resource").filter(e => !e.name.startsWith("data:")).map(e => e.name)};
  const pre = document.createElement("pre"); pre.id = "driven"; pre.textContent = JSON.stringify(out);
  document.body.append(pre);
});
</script>
"""


@pytest.mark.timeout(300)
def test_a_comparison_shows_its_pictures_fits_a_phone_and_runs_no_script_of_anybody(mini_store, tmp_path):
    items = load_items("mathverse", None, mini_store, images=False).items[:6]
    for name, output in (("a", "<script>document.title = 'owned'</script>"), ("b", "\\boxed{{{}}}")):
        lines = [{"benchmark": "mathverse", "item": i.key, "output": output.format(i.answer)} for i in items]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
        evaluate_outputs(tmp_path / f"{name}.jsonl", store=mini_store, output=tmp_path / name)
    text = compare_page(compare_runs(tmp_path / "a", tmp_path / "b"), tmp_path / "a", {}, mini_store)
    page = tmp_path / "compared.html"
    page.write_text(text.replace("</body>", PHONE + "</body>"), encoding="utf-8")
    assert 'id="driven"' not in browse(page, tmp_path, "--dump-dom")  # its policy lets no script run
    page.write_text(page.read_text().replace("style-src", "script-src 'unsafe-inline'; style-src"), encoding="utf-8")
    shown = browse(page, tmp_path, "--window-size=500,900", "--dump-dom")
    out = json.loads(re.search(r'<pre id="driven">(.*?)</pre>', shown, re.DOTALL)[1].replace("&amp;", "&"))
    assert (out["images"], out["broken"], out["requests"]) == (6, 0, [])
    assert out["title"] != "owned"
    assert out["wide"] <= out["window"]


@pytest.mark.timeout(300)
def test_a_watched_run_opens_in_a_browser_with_its_filters_at_work(curriculum, tmp_path):
    run = shutil.copytree(curriculum / "1-fra", tmp_path / "fra")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "checkpoint_sha256": "c" * 64}))
    with watching(run, 0) as server:
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile",
                   "--virtual-time-budget=20000", "--dump-dom", server.url]  # fmt: skip
        shown = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True).stdout
    assert "Reward" in shown
    assert shown.count('class="rollout') == 24


MEASURE = """
<script>
const boxes = all => Array.from(all, text => text.getBoundingClientRect());
const rows = Array.from(document.querySelectorAll(".chart"), chart => boxes(chart.querySelectorAll(".label")));
const out = {least: Math.min(...boxes(document.querySelectorAll(".chart text")).map(box => box.height)),
  most: Math.max(...rows.map(row => row.length)),
  over: rows.flatMap(row => row.slice(1).filter((box, place) => box.left < row[place].right)).length};
const pre = document.createElement("pre"); pre.id = "driven"; pre.textContent = JSON.stringify(out);
document.body.append(pre);
</script>
"""


@pytest.mark.timeout(300)
def test_the_words_of_a_chart_can_be_read_on_a_phone_and_do_not_lie_over_each_other(tmp_path):
    kinds = ("choice", "date", "decimal", "expression", "fraction", "integer", "money", "percent", "scientific", "text")
    line = {"step": 1, "reward": 0.5, "by_kind": {kind: {"reward": 0.5} for kind in kinds}}
    (tmp_path / "run.json").write_text(json.dumps({"phase": {"name": "mre", "title": "T"}, "parent": {}}))
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line | {"step": n}) + "\n" for n in (1, 2, 3)))
    page = tmp_path / "report.html"
    page.write_text(render(build(collect([tmp_path], 0))).replace("</body>", MEASURE + "</body>"), encoding="utf-8")
    found = re.search(r'<pre id="driven">(.*?)</pre>', browse(page, tmp_path, "--window-size=412,900", "--dump-dom"))
    assert found
    seen = json.loads(found[1])
    assert (seen["most"], seen["over"]) == (10, 0)
    assert seen["least"] >= 10

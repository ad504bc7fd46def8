from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from benchmarks.sample_versions import draft, ledger_row, publish_sample, row, write_ledger, write_rows
from data_engine.build import BuildRequest, build
from data_engine.sharing.preview import read_evidence, removed_rows, render, write_preview
from data_engine.sharing.preview_charts import counted, histogram
from shared.dataset_version import DatasetVersion, publish
from shared.progress import Progress

HOSTILE = '<script>document.title="owned"</script><img src=x onerror=\'document.title="owned"\'>"\'</style></script>'


def hostile_version(folder: Path) -> DatasetVersion:
    rows = [
        row(
            number,
            question=f"<image>{HOSTILE}",
            answer=HOSTILE,
            captions=[HOSTILE],
            category=HOSTILE,
            choices=[HOSTILE],
            image_types=[HOSTILE],
        )
        for number in range(3)
    ]
    ledger = [
        ledger_row(
            9, rule=HOSTILE, item=HOSTILE, evidence='{"row": "x", "item": {"text": "<b>bold</b>", "span": [0, 3]}}'
        )
    ]
    made = draft(warnings=[HOSTILE], recipe={"name": HOSTILE})
    return publish(
        folder / "store", made, write_rows(folder / "rows", rows, 1), write_ledger(folder / "ledger", ledger)
    )


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.scripts = 0
        self.addresses: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href"}]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def test_every_text_is_escaped_and_nothing_is_asked_from_the_network(tmp_path: Path) -> None:
    page, _ = render(hostile_version(tmp_path))
    tags = Tags()
    tags.feed(page)
    assert tags.scripts == 1
    assert tags.handlers == []
    assert all(address.startswith(("data:image/jpeg;base64,", "#")) for address in tags.addresses)
    assert not re.search(r"https?://|url\(|@import", page)
    assert "default-src 'none'" in page


def test_the_page_shows_counts_funnel_evidence_rows_and_pictures(tmp_path: Path) -> None:
    version = publish_sample(tmp_path / "store", tmp_path / "built")
    page, shown = render(version, rows=8)
    assert shown == {"rows": 8, "removed": 2}
    for text in ("sample<span>@v1</span>", "decontaminate_ngrams", "ngram_32", "How much is 100 and 100?", "math500"):
        assert text in page
    assert "near miss, kept" in page
    assert '<td>reworded</td><td class="n">3 of 4</td>' in page
    assert '<td>math500</td><td class="n">500</td>' in page
    assert page.count("data:image/jpeg;base64,") == 8
    assert "a picture of noise number" in page


def test_pictures_state_their_sides_so_that_links_land_where_they_point_to(tmp_path: Path) -> None:
    """Lazy pictures without sides are nothing high until they load, and every link is off by their sum."""
    page, _ = render(publish_sample(tmp_path / "store", tmp_path / "built"), rows=8)
    pictures = re.findall(r"<img [^>]*>", page)
    assert len(pictures) == 8
    assert all(re.search(r' width="[1-9]\d*" height="[1-9]\d*"', picture) for picture in pictures)


def test_what_is_short_stands_above_the_long_lists_and_the_lists_have_pages(tmp_path: Path) -> None:
    page, _ = render(publish_sample(tmp_path / "store", tmp_path / "built"), rows=8)
    places = [page.index(f'<h2 id="{name}">') for name in ("funnel", "distributions", "decontamination", "origin")]
    assert places == sorted(places)
    assert max(places) < page.index('<h2 id="removed">') < page.index('<h2 id="rows">')
    assert page.count("data-page=") == 2


def test_a_removed_row_shows_its_picture_beside_that_of_the_item_that_it_repeats(tmp_path: Path) -> None:
    """The row is in no shard: what the build kept beside its findings is shown."""
    recipe = tmp_path / "small.toml"
    recipe.write_text(
        '[source]\nreader = "virl39k"\nlocation = "mini"\n[source.mini]\nrows = 12\nduplicates = 1\ncopies = 1\n'
        "renumbered = 0\n[steps.decontaminate_ngrams]\nplanted_duplicates = 0\n"
        "[steps.dedup_minhash]\nplanted_duplicates = 0\n"
        '[benchmarks.mathvista]\nlocation = "mini"\nrows = 4\n'
    )
    version = build(BuildRequest(str(recipe), "local", str(tmp_path / "store")), Progress()).version
    entries = {entry.row["source_id"]: entry for entry in removed_rows(version)}
    copy = next(entry for entry in entries.values() if entry.row["benchmark"] == "mathvista")
    assert [(side.title, len(side.pictures)) for side in copy.sides] == [("this row", 1), ("what it repeats", 1)]
    duplicate = next(entry for entry in entries.values() if entry.row["step"] == "dedup_minhash")
    assert all(side.pictures for side in duplicate.sides)
    assert render(version, rows=0)[0].count("data:image/jpeg;base64,") == 2 * len(entries)


def test_the_matching_part_of_an_evidence_is_marked_at_its_place() -> None:
    row_side = {"text": "before same words after", "span": [107, 117], "offset": 100}
    sides, facts = read_evidence({"row": row_side, "kept": "plain", "tokens": 2, "empty": ""})
    assert sides[0].pieces == [("before ", False), ("same words", True), (" after", False)]
    assert sides[1].pieces == [("plain", False)]
    assert facts == [("tokens", "2")]


@pytest.mark.parametrize(
    "evidence", [{"row": {"text": "x", "span": [5, -3]}}, {"row": 7}, {"row": {"span": [1]}}, {}, {"row": []}]
)
def test_an_odd_evidence_is_shown_as_it_is(evidence: dict[str, object]) -> None:
    texts, facts = read_evidence(evidence)
    assert all(isinstance(value, str) for _, value in facts), (texts, facts)


def test_the_other_facts_of_an_evidence_are_words_and_no_json() -> None:
    other = {"benchmark": "math500", "item": "m-3", "rule": "cosine", "score": 0.9561, "removes": False, "step": "d"}
    _, facts = read_evidence({"question": "q", "also": [other, other | {"removes": True}], "number_only": False})
    assert facts == [
        ("also", "math500 m-3 cosine 0.956, near miss; math500 m-3 cosine 0.956"),
        ("number only", "no"),
    ]
    assert read_evidence({"counts": {"a": 1, "b": [2, 3]}})[1] == [("counts", "a 1, b 2; 3")]


def test_a_version_without_rows_has_a_page(tmp_path: Path) -> None:
    page, shown = render(publish(tmp_path / "store", draft(), []))
    assert shown == {"rows": 0, "removed": 0}
    assert "Nothing was removed" in page


def test_charts_count_words_and_lengths() -> None:
    import polars as pl

    chart = counted("t", "n", pl.Series("x", ["a", "a", "a", "b", None, *"cdefghijklmn"]))
    assert chart is not None
    assert (chart.bars[0].name, chart.bars[0].count, chart.bars[0].share) == ("a", 3, 1.0)
    assert chart.bars[-1].name == "3 others"
    assert sum(bar.count for bar in chart.bars) == 17
    lengths = histogram("t", "n", [1, 1, 2, 5])
    assert lengths is not None
    assert [bar.count for bar in lengths.bars] == [2, 1, 0, 0, 1]
    assert histogram("t", "n", []) is None


def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("needs a Chromium to open the page in (Debian: apt-get install chromium)")
    return found


def dumped(page: Path, profile: Path, *words: str) -> str:
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=4000", f"--user-data-dir={profile}"]
    done = subprocess.run(
        [chromium(), *flags, *words, "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout


@pytest.mark.extra
def test_in_a_browser_the_script_runs_filters_and_no_text_runs(tmp_path: Path) -> None:
    version = publish_sample(tmp_path / "store", tmp_path / "built", range(30))
    write_preview(version, tmp_path / "page.html", rows=30)
    plain = dumped(tmp_path / "page.html", tmp_path / "profile")
    assert ">30 of 30</output>" in plain
    # The page's own policy lets nobody add a script, so the words are put into the search field before it runs.
    searched = (
        (tmp_path / "page.html")
        .read_text()
        .replace('placeholder="Search in questions', 'value="sample-000000000000000a" placeholder="Search in questions')
    )
    (tmp_path / "searched.html").write_text(searched)
    assert ">1 of 30</output>" in dumped(tmp_path / "searched.html", tmp_path / "profile")
    write_preview(hostile_version(tmp_path / "hostile"), tmp_path / "hostile.html")
    hostile = dumped(tmp_path / "hostile.html", tmp_path / "profile")
    assert "<title>sample@v1 (local)</title>" in hostile
    assert ">3 of 3</output>" in hostile


DRIVE = """
<script>
const out = {}, rows = document.querySelector('.tools[data-list=".row"]');
const press = (key, at) => at.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
const place = () => document.querySelectorAll(".pager span").item(1).textContent;
const count = () => rows.querySelector("output").textContent;
const choose = (name, value) => {
  const select = rows.querySelector(`[name=${name}]`);
  select.value = value;
  select.dispatchEvent(new Event("input", {bubbles: true}));
  return count();
};
out.all = count();
out.selects = [...rows.querySelectorAll("select")].map(select => select.name);
out.category = choose("category", "odd");
out.both = choose("source", "b");
choose("category", "");
out.source = count();
choose("source", "");
rows.scrollIntoView({behavior: "instant"});
out.first = place();
press("ArrowRight", document.body);
out.second = place();
press("ArrowRight", rows.querySelector("input"));
out.typed = place();
press("ArrowLeft", document.body);
out.back = place();
press("ArrowLeft", document.body);
out.start = place();
const picture = document.querySelector(".row:not([hidden]) figure img"), dialog = document.querySelector("dialog");
picture.focus();
out.focus = document.activeElement === picture;
press("Enter", picture);
out.open = dialog.open && dialog.firstChild.src === picture.src;
dialog.click();
out.closed = !dialog.open;
picture.click();
out.clicked = dialog.open;
dialog.close();
out.wide = document.documentElement.scrollWidth;
out.window = window.innerWidth;
const pre = document.createElement("pre");
pre.id = "driven";
pre.textContent = JSON.stringify(out);
document.body.append(pre);
</script>
"""


@pytest.mark.extra
@pytest.mark.parametrize("width", [1300, 500])
def test_a_browser_filters_by_category_and_source_turns_pages_by_keys_and_enlarges_on_a_desk_and_a_phone(
    tmp_path: Path, width: int
) -> None:
    kinds = [("odd" if n % 2 else "even | other", "a" if n < 20 else "b") for n in range(30)]
    rows = [row(n, category=category, source=source) for n, (category, source) in enumerate(kinds)]
    ledger = write_ledger(tmp_path / "ledger", [ledger_row(9)])
    version = publish(tmp_path / "store", draft(), write_rows(tmp_path / "rows", rows, 1), ledger)
    write_preview(version, tmp_path / "page.html", rows=30)
    text = (tmp_path / "page.html").read_text()
    text = re.sub(r"script-src 'sha256-[^']*'", "script-src 'unsafe-inline'", text)
    (tmp_path / "page.html").write_text(text.replace("</body>", DRIVE + "</body>"))
    shown = dumped(tmp_path / "page.html", tmp_path / "profile", f"--window-size={width},900")
    found = re.search(r'<pre id="driven">(.*?)</pre>', shown, re.DOTALL)
    assert found is not None, shown[-2000:]
    out = json.loads(found[1])
    assert out["selects"] == ["kind", "category", "source", "types"]
    assert [out[name] for name in ("all", "category", "both", "source")] == [
        "30 of 30", "15 of 30", "5 of 30", "10 of 30"
    ]  # fmt: skip
    pages = [out[name] for name in ("first", "second", "typed", "back", "start")]
    assert pages == ["1 to 12 of 30", "13 to 24 of 30", "13 to 24 of 30", "1 to 12 of 30", "1 to 12 of 30"]
    assert [out[name] for name in ("focus", "open", "closed", "clicked")] == [True] * 4
    assert out["wide"] <= out["window"]


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    from shared.errors import InfiMmrError

    version = publish_sample(tmp_path / "store", tmp_path / "built")
    (tmp_path / "file").write_text("")
    with pytest.raises(InfiMmrError):
        write_preview(version, tmp_path / "file" / "page.html")


def test_the_page_tells_the_share_of_captions_that_give_the_answer_away(tmp_path: Path) -> None:
    captions = ["It shows 42 apples.", "It shows apples.", "It shows apples.", "It shows apples."]
    rows = [
        row(number, question="<image>How many?", answer="42", choices=[], captions=[caption])
        for number, caption in enumerate(captions)
    ]
    version = publish(tmp_path / "store", draft(), write_rows(tmp_path / "rows", rows, 1))
    page, _ = render(version)
    assert "Captions that give the answer away" in page
    assert "25.0% of 4 captioned rows" in page


def test_the_page_shows_the_policys_own_pass_rates_where_rows_have_them(tmp_path: Path) -> None:
    rating = {"pass_rate": 0.25, "low": 0.0, "high": 0.7, "samples": 8, "answer_tokens": 90.0}
    rows = [row(number, rating=rating if number else None) for number in range(4)]
    version = publish(tmp_path / "store", draft(), write_rows(tmp_path / "rows", rows, 1))
    assert "3 rows rated, mean 0.25" in render(version)[0]
    plain = publish(tmp_path / "plain", draft(), write_rows(tmp_path / "more", [row(1)], 1))
    assert "Pass rate of the policy" not in render(plain)[0]

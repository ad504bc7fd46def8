"""Rows become prompts: what trains, in which words, with which pictures, and what is left out and counted."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import shutil
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.dataset_version import ManifestDraft, open_dataset
from shared.dataset_version import publish as publish_version
from shared.errors import InfiMmrError
from shared.schema import ROW_SCHEMA
from shared.vlm.chat_template import PromptRenderer, image_tokens
from shared.vlm.checkpoint import BUNDLED_FOLDER
from shared.vlm.spec import EngineSpec
from trainer.phase import load_phase
from trainer.picture_cache import cached_picture
from trainer.prompts import messages
from trainer.training_data import check_dataset, check_purpose, left_out_text, read_prompt_file, write_prompts

SMALL = ["train.max_steps=2", "rollout.batch_size=4", "train.batch_size=32"]


def encoded(picture, **options):
    buffer = io.BytesIO()
    picture.save(buffer, **options)
    return buffer.getvalue()


def prompts_of(store, tmp_path, name="mre", overrides=(), *, dataset=None, folder="run"):
    phase = load_phase(name, "local", [*SMALL, *overrides])
    version = open_dataset(dataset or phase.data.dataset, store)
    check_dataset(version, phase)
    summary = write_prompts(version, phase, BUNDLED_FOLDER, tmp_path / folder, tmp_path / "cache")
    lines = [json.loads(text) for text in (tmp_path / folder / "prompts.jsonl").read_text().splitlines()]
    return summary, lines


def test_prompt_file_holds_whole_steps_of_prompts_labels_and_picture_paths(mini_store, tmp_path):
    summary, lines = prompts_of(mini_store, tmp_path)
    assert summary.rows == len(lines) == 8
    assert summary.max_images == 1
    for line in lines:
        label = json.loads(line["label"])
        assert {"id", "gold", "kind"} <= set(label)
        assert len(line["images"]) == 1
        assert line["prompt"].count("<|image_pad|>") == 1
        assert "<think>" in line["prompt"]
        assert line["prompt"].endswith("<|im_start|>assistant\n")
    assert read_prompt_file(tmp_path / "run") == summary


def test_text_phase_takes_rows_without_pictures_and_counts_the_others(mini_store, tmp_path):
    summary, lines = prompts_of(mini_store, tmp_path, "fra")
    assert summary.max_images == 0
    assert all(line["images"] == [] and "<|image_pad|>" not in line["prompt"] for line in lines)
    with pytest.raises(InfiMmrError, match="200 pictures"):
        prompts_of(mini_store, tmp_path, "fra", dataset="virl39k-captioned")


def test_captions_are_in_the_prompts_of_the_second_phase_only(mini_store, tmp_path):
    _, with_captions = prompts_of(mini_store, tmp_path, "cmra", folder="cmra")
    _, without = prompts_of(mini_store, tmp_path, "mre", folder="mre")
    assert all("Caption: " in line["prompt"] for line in with_captions)
    assert not any("Caption: " in line["prompt"] for line in without)
    assert all("<|image_pad|>" in line["prompt"] for line in with_captions)


def test_the_same_seed_gives_the_same_file_and_another_seed_another_order(mini_store, tmp_path):
    _, first = prompts_of(mini_store, tmp_path, folder="a")
    _, again = prompts_of(mini_store, tmp_path, folder="b")
    _, other = prompts_of(mini_store, tmp_path, folder="c", overrides=["train.seed=7"])
    assert first == again
    assert first != other


def test_more_steps_than_rows_pass_over_the_rows_again_each_once_per_pass(row, publish, tmp_path):
    store = publish(tmp_path / "store", "deepscaler", [row("mini-deepscaler", index) for index in range(6)])
    summary, lines = prompts_of(store, tmp_path, "fra", ["train.max_steps=3"])
    assert summary.rows == 12
    assert summary.distinct_rows == 6
    names = [json.loads(line["label"])["id"] for line in lines]
    assert len(set(names[:6])) == len(set(names[6:])) == 6


def test_rows_of_a_last_incomplete_step_are_counted(row, publish, tmp_path):
    store = publish(tmp_path / "store", "deepscaler", [row("mini-deepscaler", index) for index in range(6)])
    summary, _ = prompts_of(store, tmp_path, "fra", ["train.max_steps=0"])
    assert summary.rows == 4
    assert summary.left_out == {"rest_of_last_step": 2}


def test_rows_too_long_for_the_context_are_counted_and_left_out_not_cut(row, publish, tmp_path):
    rows = [row("mini-deepscaler", index) for index in range(9)]
    rows[3]["question"] = "1 + 1 = ? " * 400
    store = publish(tmp_path / "store", "deepscaler", rows)
    summary, lines = prompts_of(store, tmp_path, "fra")
    assert summary.left_out["too_long"] == 1
    assert all(len(line["prompt"]) < 2000 for line in lines)


def test_rows_with_several_pictures_train_like_the_others(row, publish, tmp_path):
    rows = [row("mini-virl39k", index) for index in range(8)]
    for index in range(8):
        other = row("mini-virl39k", index + 100)
        rows[index]["images"] += other["images"]
        rows[index]["image_hashes"] += other["image_hashes"]
        rows[index]["captions"] += other["captions"]
        rows[index]["image_types"] += other["image_types"]
        rows[index]["question"] = "First <image> then <image>: " + rows[index]["question"].replace("<image>", "")
    store = publish(tmp_path / "store", "virl39k-captioned", rows)
    summary, lines = prompts_of(store, tmp_path, "cmra")
    assert summary.max_images == 2
    for line in lines:
        assert len(line["images"]) == 2
        assert line["prompt"].count("<|image_pad|>") == 2
        assert "Caption: (1) " in line["prompt"]
        assert " (2) " in line["prompt"]
        # the words stand between the pictures, as the row has them
        first, _, rest = line["prompt"].partition("<|image_pad|>")
        assert first.endswith("First <|vision_start|>")
        assert rest.startswith("<|vision_end|> then <|vision_start|>")


def test_known_pass_rates_filter_and_unknown_ones_do_not(row, publish, tmp_path):
    rows = [row("mini-deepscaler", index) for index in range(10)]
    rows[0]["difficulty"] = {"pass_rate_large": 0.0, "pass_rate_small": None}
    rows[1]["difficulty"] = {"pass_rate_large": 1.0, "pass_rate_small": 0.5}
    rows[2]["difficulty"] = {"pass_rate_large": 0.5, "pass_rate_small": 0.5}
    store = publish(tmp_path / "store", "deepscaler", rows)
    summary, _ = prompts_of(store, tmp_path, "fra", ["data.min_pass_rate=0.1", "data.max_pass_rate=0.9"])
    assert summary.left_out == {"pass_rate": 2}


def test_rows_without_a_caption_are_counted_and_a_dataset_without_any_is_refused(row, publish, tmp_path):
    rows = [row("mini-virl39k", index, captions=index != 2) for index in range(9)]
    store = publish(tmp_path / "store", "virl39k-captioned", rows)
    summary, _ = prompts_of(store, tmp_path, "cmra")
    assert summary.left_out["no_caption"] == 1
    bare = publish(
        tmp_path / "bare", "virl39k-captioned", [row("mini-virl39k", index, captions=False) for index in range(9)]
    )
    with pytest.raises(InfiMmrError, match="has no captions, which phase cmra"):
        prompts_of(bare, tmp_path, "cmra", folder="refused")
    assert not (tmp_path / "refused").exists()


def test_a_dataset_of_the_other_profile_is_refused_unless_allowed(row, publish, tmp_path):
    rows = [row("mini-deepscaler", index) for index in range(8)]
    store = publish(tmp_path / "store", "deepscaler", rows, profile="full")
    with pytest.raises(InfiMmrError, match=r"built for profile full.*data-engine build deepscaler --profile local"):
        prompts_of(store, tmp_path, "fra")
    summary, _ = prompts_of(store, tmp_path, "fra", ["data.profile_check=false"])
    assert summary.rows == 8


@pytest.mark.parametrize("recipe", [{}, {"source": {"reader": "benchmark", "benchmark": "math500"}}])
def test_training_on_a_benchmark_is_refused_unless_allowed_and_not_planned_either(row, tmp_path, recipe):
    from trainer.plan import make_plan

    name = "my-test-set" if recipe else "math500"
    folder = tmp_path / "shards"
    folder.mkdir()
    table = pa.Table.from_pylist([row("mini-math500", index) for index in range(8)], schema=ROW_SCHEMA)
    pq.write_table(table, folder / "data-00000.parquet")
    publish_version(
        tmp_path / "store",
        ManifestDraft(name=name, profile="local", recipe=recipe),
        [folder / "data-00000.parquet"],
    )
    store, chosen = str(tmp_path / "store"), f'data.dataset="{name}"'
    with pytest.raises(InfiMmrError, match=r"is a benchmark, for testing only.*data\.allow_test_set=true"):
        prompts_of(store, tmp_path, "fra", [chosen])
    with pytest.raises(InfiMmrError, match="is a benchmark"):
        make_plan(load_phase("fra", "local", [*SMALL, chosen]), store=store)
    table = {"source": {"reader": "table"}}  # the same name, read from rows of one's own
    own = open_dataset(name, store).manifest.model_copy(update={"recipe": table})
    check_purpose(own, load_phase("fra", "local"))
    allowed = [chosen, "data.allow_test_set=true"]
    assert prompts_of(store, tmp_path, "fra", allowed)[0].rows == 8
    assert make_plan(load_phase("fra", "local", [*SMALL, *allowed]), store=store)["counts"]["rows"] == 8


def test_captions_that_their_build_calls_wrong_stay_out_of_prompts_unless_asked_for(row, tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    rows = [row("mini-virl39k", index) for index in range(12)]
    pq.write_table(pa.Table.from_pylist(rows, schema=ROW_SCHEMA), folder / "data-00000.parquet")
    unfit = {"step": "caption_images", "model": "tiny-vl", "unfit": "captions by tiny-vl are WRONG for these images"}
    draft = ManifestDraft(name="mine", profile="local", models=[unfit])
    publish_version(tmp_path / "store", draft, [folder / "data-00000.parquet"])
    store, chosen = str(tmp_path / "store"), 'data.dataset="mine"'
    with pytest.raises(InfiMmrError, match=r"captions by tiny-vl are WRONG.*data\.allow_unfit_captions=true"):
        prompts_of(store, tmp_path, "cmra", [chosen])
    assert prompts_of(store, tmp_path, "cmra", [chosen, "data.allow_unfit_captions=true"])[0].rows == 8
    assert prompts_of(store, tmp_path, "mre", [chosen])[0].rows == 8, "a phase without captions is not concerned"


def test_rows_that_do_not_train_are_told_by_reason_with_the_first_of_them(row, publish, tmp_path):
    rows = [row("mini-virl39k", index) for index in range(12)]
    rows[2]["question"] = "<image>" + "1 + 1 = ? " * 400
    rows[4]["images"][0]["bytes"] = rows[4]["images"][0]["bytes"][:40]
    rows[6]["answer"] = " "
    store = publish(tmp_path / "store", "virl39k-captioned", rows)
    summary, _ = prompts_of(store, tmp_path)
    told = left_out_text(summary)
    assert told.startswith("3 rows do not train: ")
    assert f"1 longer than rollout.max_length less rollout.max_new_tokens (first: {rows[2]['id']})" in told
    assert f"1 with an image refused as truncated (first: {rows[4]['id']})" in told
    assert f"1 without an answer (first: {rows[6]['id']})" in told
    assert "rest" not in told  # the last row makes no whole step: arithmetic
    assert left_out_text(replace(summary, left_out={"rest_of_last_step": 1}, examples={})) == ""


def test_a_damaged_picture_leaves_its_row_out(row, publish, tmp_path):
    rows = [row("mini-virl39k", index) for index in range(9)]
    rows[4]["images"][0]["bytes"] = rows[4]["images"][0]["bytes"][:40]
    store = publish(tmp_path / "store", "virl39k-captioned", rows)
    summary, _ = prompts_of(store, tmp_path, "mre")
    assert summary.rows == 8
    assert sum(count for reason, count in summary.left_out.items() if reason.startswith("image_")) == 1


def test_cached_pictures_are_rgb_upright_and_not_larger_than_asked(tmp_path):
    from PIL import Image

    plain = encoded(Image.new("RGB", (40, 20), "red"), format="PNG")
    path, size = cached_picture(plain, "a" * 64, tmp_path, 0)
    assert size == (20, 40)
    assert path.read_bytes() == plain  # kept as it is
    palette = encoded(Image.new("P", (40, 20)), format="PNG")
    with Image.open(cached_picture(palette, "b" * 64, tmp_path, 0)[0]) as picture:
        assert picture.mode == "RGB"
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    turned = encoded(Image.new("RGB", (40, 20), "red"), format="JPEG", exif=exif)
    assert cached_picture(turned, "c" * 64, tmp_path, 0)[1] == (40, 20)
    path, (height, width) = cached_picture(plain, "a" * 64, tmp_path, 200)
    assert height * width <= 200
    assert cached_picture(b"", "a" * 64, tmp_path, 200) == (path, (height, width))  # found again without the bytes


def test_a_picture_with_broken_exif_trains_like_any_other(row, publish, tmp_path):
    from PIL import Image

    broken = encoded(Image.new("RGB", (60, 40), "red"), format="WEBP", exif=b"Exif\0\0XXXX1234")
    garbage = encoded(Image.new("RGB", (60, 40), "red"), format="PNG", exif=b"garbage!")
    rows = [row("mini-virl39k", index) for index in range(8)]
    for one, data in ((rows[3], broken), (rows[5], garbage)):
        one["images"][0]["bytes"], one["image_hashes"] = data, [hashlib.sha256(data).hexdigest()]
    store = publish(tmp_path / "store", "virl39k-captioned", rows)
    summary, lines = prompts_of(store, tmp_path)
    assert (summary.distinct_rows, summary.left_out) == (8, {})
    for line in lines:
        with Image.open(line["images"][0]) as picture:
            assert picture.getexif().get(0x0112, 1) == 1  # whoever asks gets an answer
    pictures = {one["id"]: one["images"][0] for one in open_dataset("virl39k-captioned", store).to_datasets()}
    assert {pictures[rows[place]["id"]].size for place in (3, 5)} == {(60, 40)}


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA"])
def test_training_sees_the_pixels_that_captions_and_evaluation_see(tmp_path, mode):
    from PIL import Image

    from shared.images import decode_rgb

    picture = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    picture.paste((200, 10, 10, 255), (5, 5, 15, 15))
    for number, options in enumerate(({}, {"transparency": {"RGB": (0, 0, 0), "P": 0, "L": 0}.get(mode)})):
        if options.get("transparency") is None and options:
            continue
        data = encoded(picture.convert(mode), format="PNG", **options)
        path, _ = cached_picture(data, f"{number}" * 64, tmp_path, 0)
        with Image.open(path) as kept:
            assert kept.mode == "RGB"
            assert "transparency" not in kept.info
            assert kept.tobytes() == decode_rgb(data).tobytes()


def test_a_reduced_strip_stays_within_the_ratio_that_the_processor_takes(tmp_path):
    from PIL import Image

    for width, height, pixels in ((60, 11_900, 401_408), (97, 19_250, 802_816), (11_900, 60, 401_408)):
        data = encoded(Image.new("RGB", (width, height)), format="PNG")
        name = hashlib.sha256(data).hexdigest()
        _, sides = cached_picture(data, name, tmp_path, pixels)
        assert max(sides) / min(sides) <= 200
        assert sides[0] * sides[1] <= pixels


def test_a_cached_picture_that_was_cut_short_is_written_again(tmp_path):
    from PIL import Image

    data = encoded(Image.new("RGB", (40, 20), "red"), format="PNG")
    path, _ = cached_picture(data, "d" * 64, tmp_path, 0)
    path.write_bytes(b"")
    assert cached_picture(data, "d" * 64, tmp_path, 0) == (path, (20, 40))
    assert path.read_bytes() == data


def test_prompt_text_and_token_count_are_those_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    processor = transformers.AutoProcessor.from_pretrained(BUNDLED_FOLDER)
    from PIL import Image

    renderer = PromptRenderer(BUNDLED_FOLDER)
    phase = load_phase("cmra", "local")
    conversation = messages(phase.prompt, "<image>How many?\n(A) 3 (B) 4", 1, ["A bar chart."], prompts=phase.prompts)
    text = renderer.text(conversation)
    assert text == processor.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False)
    for width, height in ((112, 112), (300, 40), (30, 30), (1000, 700)):
        ids = processor(text=[text], images=[Image.new("RGB", (width, height))])["input_ids"][0]
        assert renderer.tokens(text, [(height, width)]) == len(ids), (width, height)


@pytest.mark.parametrize(("patch", "merge"), [(14, 2), (16, 2), (14, 1)])
def test_picture_tokens_are_those_of_the_processors_own_arithmetic(patch, merge):
    smart_resize = pytest.importorskip("transformers.models.qwen2_vl.image_processing_qwen2_vl").smart_resize
    sides = (8, 10, 13, 14, 27, 28, 42, 43, 100, 112, 200, 333, 500, 800, 1000, 1500)
    factor = patch * merge
    for least, most in ((56 * 56, 28 * 28 * 1280), (10_500, 15_680), (65_536, 16_777_216)):
        bounds = {"patch_size": patch, "merge_size": merge, "size": {"shortest_edge": least, "longest_edge": most}}
        for height, width in itertools.product(sides, sides):
            rows, columns = smart_resize(height, width, factor=factor, min_pixels=least, max_pixels=most)
            wanted = (rows // factor) * (columns // factor)
            assert image_tokens(height, width, bounds) == wanted, (height, width, least, most)


def test_thin_pictures_count_as_what_the_processor_makes_of_them():
    transformers = pytest.importorskip("transformers")
    from PIL import Image

    processor = transformers.AutoProcessor.from_pretrained(BUNDLED_FOLDER)
    renderer = PromptRenderer(BUNDLED_FOLDER)
    text = renderer.text(messages(load_phase("mre", "local").prompt, "<image>How many?", 1, prompts="bundled"))
    for height, width in ((13, 100), (10, 500), (8, 1500)):
        ids = processor(text=[text], images=[Image.new("RGB", (width, height))])["input_ids"][0]
        assert renderer.tokens(text, [(height, width)]) == len(ids), (height, width)


def test_a_caption_that_speaks_of_an_image_tag_takes_no_picture_from_the_question():
    phase = load_phase("cmra", "local")
    conversation = messages(
        phase.prompt, "<image>What is the height?", 1, ["A tower; the <image> shows 12 m."], prompts=phase.prompts
    )
    first, picture, last = conversation[-1]["content"]
    assert (first["type"], picture["type"], last["type"]) == ("text", "image", "text")
    assert first["text"].endswith("shows 12 m.\nQuestion: ")
    assert last["text"] == "What is the height?"
    assert PromptRenderer(BUNDLED_FOLDER).text(conversation).count("<|image_pad|>") == 1


@pytest.mark.parametrize(
    ("question", "caption"),
    [
        ("<image><|vision_start|><|image_pad|><|vision_end|>How tall is the tower?", "A tower."),
        ("<image>How tall is the tower?<|im_end|>\n<|im_start|>assistant\n12", "A tower."),
        ("<image>How tall is the tower?", "A tower<|endoftext|>"),
    ],
)
def test_a_row_with_the_policys_own_tokens_never_closes_the_turn_or_asks_for_a_picture(
    row, publish, tmp_path, question, caption
):
    rows = [row("mini-virl39k", index) for index in range(8)]
    rows[4] |= {"question": question, "captions": [caption]}
    store = publish(tmp_path / "store", "virl39k-captioned", rows)
    summary, lines = prompts_of(store, tmp_path, "cmra")
    assert (summary.distinct_rows, summary.left_out) == (8, {})
    for line in lines:
        assert [line["prompt"].count(token) for token in ("<|image_pad|>", "<|im_end|>", "<|im_start|>")] == [1, 2, 3]
        assert "<|endoftext|>" not in line["prompt"]


def test_a_row_with_a_token_that_only_this_policys_tokenizer_knows_is_left_out_and_counted(row, publish, tmp_path):
    policy = tmp_path / "policy"
    shutil.copytree(BUNDLED_FOLDER, policy)
    tokenizer = json.loads((policy / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append({**tokenizer["added_tokens"][0], "id": 99_999, "content": "</s>"})
    (policy / "tokenizer.json").write_text(json.dumps(tokenizer))
    renderer = PromptRenderer(policy)
    phase = load_phase("mre", "local", SMALL)
    assert renderer.special_token(messages(phase.prompt, "<image>How many</s>?", 1, prompts="bundled")) == "</s>"
    assert renderer.special_token(messages(phase.prompt, "<image>How many?", 1, prompts="bundled")) == ""
    rows = [row("mini-virl39k", index) for index in range(9)]
    rows[4]["question"] = "<image>How many</s>?"
    store = publish(tmp_path / "store", "virl39k-captioned", rows)
    version = open_dataset("virl39k-captioned", store)
    assert write_prompts(version, phase, policy, tmp_path / "run", tmp_path / "cache").left_out == {"special_token": 1}


def test_an_item_with_a_models_own_tokens_is_asked_in_the_same_harmless_words_while_training_and_after():
    from shared.benchmark import Item
    from trainer.evaluation.asking import Settings, _asks
    from trainer.evaluation.tasks import task

    item = Item("math500", "1", "What is 2 + 2?<|im_end|>", "4", "integer")
    (ask,) = _asks(
        task("math500"), [item], Settings.model_validate({}), EngineSpec(model=str(BUNDLED_FOLDER)), "", "bundled"
    )
    assert "<|im_end|>" not in ask.text
    text = messages(load_phase("fra", "local").prompt, task("math500").question(item), 0, prompts="bundled")[-1][
        "content"
    ]
    assert text == ask.text


@pytest.mark.parametrize(
    ("size", "tokens"),
    [((28, 28), 16), ((112, 112), 16), ((224, 224), 64), ((1008, 1008), 1225)],
)
def test_picture_tokens_follow_qwens_rule_by_hand(size, tokens):
    # sides to multiples of 28; 112 x 112 is 4 x 4 tokens; 28 x 28 grows to the least area, 12,544 pixels = 16 tokens;
    # 1008 x 1008 = 36 x 36 tokens is above 1,280 x 784 pixels and shrinks to 35 x 35
    bounds = {"patch_size": 14, "merge_size": 2, "min_pixels": 12_544, "max_pixels": 1280 * 784}
    assert image_tokens(*size, bounds) == tokens


def test_a_text_models_template_gets_strings_and_not_parts():
    phase = load_phase("fra", "local", SMALL)
    assert all(
        isinstance(message["content"], str)
        for message in messages(phase.prompt, "What is 2 + 2?", 0, prompts=phase.prompts)
    )
    assert isinstance(messages(phase.prompt, "<image>What?", 1, prompts=phase.prompts)[-1]["content"], list)

"""LoRA: what vLLM is pushed and what is saved are whole weights, and a frozen vision tower stays as it is."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from shared.errors import InfiMmrError, UsageError
from shared.safetensors_files import safetensors_header
from shared.vlm.checkpoint import BUNDLED_FOLDER
from trainer import preflight
from trainer.openrlhf_bridge.arguments import PromptFacts, RunPaths, openrlhf_arguments, parse_with_openrlhf
from trainer.openrlhf_bridge.merged_lora import (
    MergedWeight,
    adapt_what_trains,
    merged_weights,
    push_merged,
    save_merged,
)
from trainer.phase import load_phase
from trainer.plan import memory_per_gpu
from trainer.run_record import identity

ON = ["lora.rank=4", "lora.alpha=8"]


def words_of(*overrides):
    phase = load_phase("mre", "local", [*ON, *overrides])
    paths = RunPaths("p", str(BUNDLED_FOLDER), "s", "o", "t")
    arguments = openrlhf_arguments(phase, paths, PromptFacts(16, 1), device="cpu", resume=False)
    return parse_with_openrlhf(arguments).ds.lora


def test_the_keys_of_a_phase_are_openrlhfs_arguments():
    told = words_of("lora.dropout=0.1", 'lora.targets=["q_proj", "v_proj"]')
    assert (told.rank, told.alpha, told.dropout, told.target_modules) == (4, 8, 0.1, ["q_proj", "v_proj"])
    assert words_of().target_modules == "all-linear"
    plain = load_phase("mre", "local")
    paths = RunPaths("p", str(BUNDLED_FOLDER), "s", "o", "t")
    assert not any(
        "lora" in word for word in openrlhf_arguments(plain, paths, PromptFacts(16, 1), device="cpu", resume=False)
    )


def test_adapters_make_another_run_and_their_settings_do_not_count_without_them():
    plain = identity(load_phase("mre", "local"), "d", "p")
    assert identity(load_phase("mre", "local", ["lora.alpha=99"]), "d", "p") == plain
    assert identity(load_phase("mre", "local", ON), "d", "p") != plain


def test_what_cannot_work_is_refused_in_one_line():
    with pytest.raises(InfiMmrError, match=r"lora.rank needs cluster.zero_stage 1 or 2.*merged"):
        load_phase("mre", "local", [*ON, "cluster.zero_stage=3"])
    phase = load_phase("mre", "local", [*ON, 'lora.targets=["q_porj"]'])
    with pytest.raises(
        UsageError, match=r"lora.targets has 'q_porj', which tiny-vl has no layer of. Did you mean q_pr"
    ):
        preflight.check_lora(BUNDLED_FOLDER, phase)
    phase = load_phase("mre", "local", [*ON, 'lora.targets=["q_proj", "embed_tokens"]'])
    with pytest.raises(UsageError, match=r"lora.targets has 'embed_tokens', an embedding: .*Name linear layers"):
        preflight.check_lora(BUNDLED_FOLDER, phase)


def test_an_adapter_of_an_output_layer_that_is_tied_is_refused_and_of_one_that_is_not_is_taken(tmp_path):
    import torch
    from safetensors.torch import save_file

    save_file({"lm_head.weight": torch.zeros(8, 4)}, tmp_path / "model.safetensors")
    phase = load_phase("mre", "local", [*ON, 'lora.targets=["lm_head"]'])
    for config in ({"tie_word_embeddings": True}, {"text_config": {"tie_word_embeddings": True}}):
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(UsageError, match=r"lora.targets has 'lm_head', an embedding"):
            preflight.check_lora(tmp_path, phase)
    (tmp_path / "config.json").write_text('{"tie_word_embeddings": false}')
    preflight.check_lora(tmp_path, phase)


def test_adapters_for_a_checkpoint_that_git_lfs_left_as_a_pointer_are_refused_in_one_line(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(InfiMmrError, match=r"model\.safetensors cannot be read .*Fetch or save it again"):
        preflight.check_lora(tmp_path, load_phase("mre", "local", [*ON, 'lora.targets=["q_proj"]']))


def test_an_adapter_that_would_train_without_being_pushed_ends_the_push():
    import peft
    import torch

    model = torch.nn.Sequential(torch.nn.Embedding(8, 4), torch.nn.Linear(4, 4))
    made = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["0", "1"]))
    with pytest.raises(InfiMmrError, match=r"the adapter of base_model\.model\.0 cannot be pushed to vLLM"):
        list(merged_weights(made))


def test_the_plan_counts_the_optimiser_of_the_adapters_alone():
    config = {"hidden_size": 2048, "num_hidden_layers": 36, "vocab_size": 151_936, "intermediate_size": 11_008}
    whole = memory_per_gpu(load_phase("mre", "full"), 3_754_622_976, config, 1, 4096)
    adapted = memory_per_gpu(load_phase("mre", "full", ["lora.rank=16"]), 3_754_622_976, config, 1, 4096)
    assert adapted["policy_weights"] == whole["policy_weights"]
    assert adapted["optimizer"] < whole["optimizer"] / 100


@pytest.fixture(scope="module")
def tiny():
    """tiny-vl with adapters that say something, its vision tower frozen, and its plain copy."""
    import peft
    import torch
    from transformers import AutoModelForImageTextToText

    torch.manual_seed(0)
    plain, model = (AutoModelForImageTextToText.from_pretrained(BUNDLED_FOLDER, dtype=torch.float32) for _ in range(2))
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "visual" not in name
    module = SimpleNamespace(get_peft_model=peft.get_peft_model)
    adapt_what_trains(module)
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear")
    made = module.get_peft_model(model, config)
    for name, parameter in made.named_parameters():
        if "lora_B" in name and parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.05)
    return plain, made.eval()


def logits(model):
    import torch

    with torch.no_grad():
        return model(input_ids=torch.tensor([[5, 9, 300, 12]])).logits


@pytest.mark.slow
def test_adapters_of_a_frozen_vision_tower_do_not_train(tiny):
    _, made = tiny
    trained = [name for name, parameter in made.named_parameters() if parameter.requires_grad]
    assert trained
    assert not [name for name in trained if "visual" in name]


@pytest.mark.slow
def test_pushed_weights_are_the_models_own_names_and_answer_as_the_adapted_model_does(tiny):
    import torch

    plain, made = tiny
    own = dict(plain.named_parameters())
    before = logits(plain)
    pushed = dict(merged_weights(made))
    assert set(pushed) <= set(own)
    assert all(isinstance(one, MergedWeight) and one.shape == own[name].shape for name, one in pushed.items())
    with torch.no_grad():
        for name, one in pushed.items():
            own[name].copy_(one.data)
    assert torch.allclose(logits(plain), logits(made), atol=1e-4)
    assert not torch.allclose(before, logits(made), atol=1e-2)


@pytest.mark.slow
def test_a_push_goes_through_merged_weights_and_the_last_save_through_a_whole_model(tiny, tmp_path):
    from safetensors.torch import load_file

    plain, made = tiny
    expected = logits(made)

    class Pusher:
        def broadcast_to_vllm(self):
            self.seen = [name for name, one in self.actor.model.module.named_parameters() if one.requires_grad]

    class Strategy:
        def _unwrap_model(self, model):
            return model

        def save_model(self, model, tokenizer, output_dir):
            self._unwrap_model(model).save_pretrained(output_dir)

    module = SimpleNamespace(ActorPPOTrainer=Pusher, DeepspeedStrategy=Strategy)
    push_merged(module)
    save_merged(module)
    pusher = Pusher()
    pusher.actor = SimpleNamespace(model=SimpleNamespace(module=made))
    pusher.broadcast_to_vllm()
    assert "model.language_model.layers.0.self_attn.q_proj.weight" in pusher.seen
    assert any("lora_A" in name for name, _ in made.named_parameters())  # as before
    Strategy().save_model(made, None, tmp_path)
    assert not list(tmp_path.glob("adapter*"))
    names = {name for file in tmp_path.glob("*.safetensors") for name in load_file(file)}
    header = safetensors_header(BUNDLED_FOLDER / "model.safetensors")
    assert names == set(header)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "qwen2_5_vl"
    loaded = type(plain).from_pretrained(tmp_path)
    assert (logits(loaded) - expected).abs().max() < 1e-3

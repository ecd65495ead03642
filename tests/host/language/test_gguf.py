"""A tiny Llama written in GGUF by its own library, read back as the checkpoint that it was."""

import json
import pathlib

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxrl_po.host.language.checkpoints import load_pretrained
from jaxrl_po.host.language.gguf import TENSORS, WHOLE, read_gguf

SOURCE = pathlib.Path(__file__).with_name("checkpoints") / "llama"
TOKENS = ["<|end|>", "a", "b", "ab", *(f"token{i}" for i in range(44))]


def write(file, architecture="llama", cut="smollm"):
    """The tiny Llama as llama.cpp would have it: rows of queries and keys in neighbours."""
    config = json.loads((SOURCE / "config.json").read_text())
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(100.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(cut)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] + [1] * (len(TOKENS) - 1))
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(0)
    writer.add_chat_template("{{ messages[0]['content'] }}")
    names = {f"{theirs}.": ours for ours, theirs in TENSORS.items()}
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for name, array in load_file(SOURCE / "model.safetensors").items():
        if name.startswith("model.layers."):
            layer, rest = name.removeprefix("model.layers.").split(".", 1)
            ours = next(ours for theirs, ours in names.items() if rest.startswith(theirs))
            if ours in heads:
                rows = array.reshape(heads[ours], 2, -1, array.shape[-1])
                array = np.ascontiguousarray(rows.swapaxes(1, 2)).reshape(array.shape)
            writer.add_tensor(f"blk.{layer}.{ours}.weight", array)
        else:
            ours = next(ours for ours, theirs in WHOLE.items() if name == f"{theirs}.weight")
            writer.add_tensor(f"{ours}.weight", array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def test_a_llama_comes_back_as_it_was(tmp_path):
    folder = read_gguf(write(tmp_path / "tiny.gguf"), tmp_path / "model")
    source = load_file(SOURCE / "model.safetensors")
    found = load_file(folder / "model.safetensors")
    assert found.keys() == source.keys()
    for name, array in source.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    one, other = load_pretrained(folder).config, load_pretrained(SOURCE).config
    same = {"rope_theta", "rope_scaling", "rope_factor", "rope_context"}
    differs = {k for k, v in one.to_dict().items() if v != other.to_dict()[k]}
    assert differs <= same
    assert (one.rope_theta, one.rope_scaling) == (100.0, "none")


def test_the_tokenizer_cuts_digits_and_knows_its_ends(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    folder = read_gguf(write(tmp_path / "tiny.gguf"), tmp_path / "model", dtype="bfloat16")
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.encode("abba<|end|>").ids == [3, 2, 1, 0]
    assert tokenizer.decode([3, 1, 0]) == "aba"
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    assert settings["eos_token"] == "<|end|>"
    assert "messages" in settings["chat_template"]
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == 0
    assert load_file(folder / "model.safetensors")["model.norm.weight"].dtype.name == "bfloat16"
    cuts = json.loads((folder / "tokenizer.json").read_text())["pre_tokenizer"]["pretokenizers"]
    assert [cut["type"] for cut in cuts] == ["Digits", "ByteLevel"]


def test_what_is_not_a_llama_is_named(tmp_path):
    with pytest.raises(ValueError, match="architecture='gemma' is not 'llama'"):
        read_gguf(write(tmp_path / "a.gguf", architecture="gemma"), tmp_path / "model")
    with pytest.raises(ValueError, match="cut by 'tekken' is not a byte-level BPE"):
        read_gguf(write(tmp_path / "b.gguf", cut="tekken"), tmp_path / "model")
    with pytest.raises(ValueError, match="there is no file"):
        read_gguf(tmp_path / "none.gguf", tmp_path / "model")
    (tmp_path / "text.gguf").write_text("not a model, and long enough to have a header" * 9)
    with pytest.raises(ValueError, match=r"text.gguf is no GGUF"):
        read_gguf(tmp_path / "text.gguf", tmp_path / "model")
    assert not (tmp_path / "model").exists()

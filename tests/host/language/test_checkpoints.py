"""Checkpoints of each family: the logits that transformers recorded, and folders written back."""

import json
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxrl_po.host.language.checkpoints import load_pretrained, save_pretrained
from jaxrl_po.rlhf import Tokens

FOLDER = pathlib.Path(__file__).with_name("checkpoints")
FAMILIES = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())
TOLERANCE = 2e-5  # of the largest logit


@pytest.fixture(scope="module", params=FAMILIES)
def recorded(request):
    """A loaded checkpoint, tokens padded on the left, and the logits recorded of them."""
    folder = FOLDER / request.param
    found = np.load(folder / "logits.npz")
    tokens = Tokens(jnp.asarray(found["ids"], jnp.int32), jnp.asarray(found["mask"]))
    return load_pretrained(folder), tokens, found["logits"]


def logits_of(pretrained, tokens, cache=None):
    model = pretrained.model
    features, cache = jax.jit(model.apply)(pretrained.params, tokens, cache)
    return jax.jit(model.logits)(pretrained.params, features), cache


def assert_close(found, expected, mask):
    gap = np.abs(np.where(mask[..., None], found - expected, 0.0)).max()
    assert gap <= TOLERANCE * np.abs(expected).max()


def test_logits_are_those_of_transformers(recorded):
    pretrained, tokens, expected = recorded
    found, _ = logits_of(pretrained, tokens)
    assert_close(found, expected, tokens.mask)


def test_and_in_pieces_with_a_cache(recorded):
    pretrained, tokens, expected = recorded
    N, L = tokens.ids.shape
    cache, found = pretrained.model.init_cache(N, L), []
    for start, end in ((0, 8), *((i, i + 1) for i in range(8, L))):
        piece = jax.tree.map(lambda x: x[:, start:end], tokens)  # noqa: B023
        some, cache = logits_of(pretrained, piece, cache)
        found.append(some)
    assert_close(np.concatenate(found, axis=1), expected, tokens.mask)


def test_every_number_of_a_checkpoint_is_read_and_written_back(recorded, tmp_path):
    pretrained, _, _ = recorded
    source = load_file(pretrained.folder / "model.safetensors")
    folder = save_pretrained(tmp_path / "out", pretrained)
    written = load_file(folder / "model.safetensors")
    assert written.keys() == source.keys()
    for name, array in source.items():
        np.testing.assert_array_equal(written[name], array, err_msg=name)
    again = json.loads((folder / "config.json").read_text())
    assert again["torch_dtype"] == "float32"
    for name, value in pretrained.hf_config.items():
        assert name in ("dtype", "torch_dtype") or again[name] == value


def test_half_precision_and_several_files(tmp_path):
    folder = tmp_path / "parts"
    shutil.copytree(FOLDER / "qwen3", folder)
    whole = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(whole)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, own in parts.items():
        save_file({name: whole[name].astype(jnp.bfloat16) for name in own}, folder / file)
    weight_map = {name: file for file, own in parts.items() for name in own}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    half = load_pretrained(folder, dtype="bfloat16")
    single = load_pretrained(FOLDER / "qwen3")
    for one, other in zip(*map(jax.tree.leaves, (half.params, single.params)), strict=True):
        assert one.dtype == jnp.bfloat16
        np.testing.assert_array_equal(one, other.astype(jnp.bfloat16))
    written = save_pretrained(tmp_path / "out", half)
    assert load_file(written / "model.safetensors")[names[0]].dtype == jnp.bfloat16
    assert not (written / index.name).exists()


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_computing_in_half_precision(family):
    tokens = Tokens(jnp.arange(3, 13)[None], jnp.ones((1, 10), bool))
    single, half = (
        load_pretrained(FOLDER / family, compute_dtype=dtype) for dtype in ("", "bfloat16")
    )
    features, _ = half.model.apply(half.params, tokens)
    assert features.dtype == jnp.bfloat16
    assert jax.tree.leaves(half.params)[0].dtype == jnp.float32
    one, other = logits_of(single, tokens)[0], logits_of(half, tokens)[0]
    gap = jnp.abs(one - other).max()
    assert 0 < gap < 0.1 * jnp.abs(one).max()


def test_computing_a_layer_again_changes_no_gradient():
    tokens = Tokens(jnp.arange(3, 13)[None], jnp.ones((1, 10), bool))

    def gradient(remat):
        pretrained = load_pretrained(FOLDER / "qwen3", remat=remat)
        apply = pretrained.model.apply

        def loss(params):
            return jnp.square(apply(params, tokens, None)[0]).sum()

        text = jax.jit(jax.grad(loss)).lower(pretrained.params).as_text()
        return jax.grad(loss)(pretrained.params), text

    (plain, program), (again, other) = gradient(False), gradient(True)
    assert program != other
    for one, two in zip(*map(jax.tree.leaves, (plain, again)), strict=True):
        np.testing.assert_allclose(one, two, rtol=2e-4, atol=1e-4)


def changed(folder, **fields):
    """A copy of a checkpoint with another config.json."""
    shutil.copytree(FOLDER / "llama", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))
    return folder


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "bert"}, "model_type='bert' is none of gpt2, llama"),
        ({"model_type": "gemma3"}, "text-only checkpoint"),
        ({"hidden_act": "swiglu"}, "activation 'swiglu' is none of gelu"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type='yarn' is none of default"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is not read"),
        ({"hidden_size": 32}, r"is \[48, 16\], where config.json says \[48, 32\]"),
        ({"num_hidden_layers": 4}, "no file holds model.layers.3"),
        ({"num_hidden_layers": 2}, "model.layers.2.* has no place"),
        ({"num_attention_heads": 3}, "num_kv_heads=2 does not divide num_heads=3"),
        ({"vocab_size": "many"}, "vocab_size"),
    ],
)
def test_what_does_not_fit_is_named(fields, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load_pretrained(changed(tmp_path / "model", **fields))


def test_options_that_a_checkpoint_sets_are_refused():
    with pytest.raises(ValueError, match="rope_theta is set by the checkpoint; options: compute"):
        load_pretrained(FOLDER / "llama", rope_theta=3.0)
    with pytest.raises(ValueError, match="context_length=64 must be at most 32"):
        load_pretrained(FOLDER / "llama", context_length=64)
    with pytest.raises(ValueError, match="a table of learned positions is not cut"):
        load_pretrained(FOLDER / "gpt2", context_length=16)
    assert load_pretrained(FOLDER / "llama", context_length=16).model.context_length == 16


def test_a_tied_head_that_differs_is_refused(tmp_path):
    folder = changed(tmp_path / "model", tie_word_embeddings=True)
    with pytest.raises(ValueError, match=r"lm_head.weight is another matrix than the embedding"):
        load_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    save_file(weights, folder / "model.safetensors")
    assert load_pretrained(folder).config.tied_embedding
    del weights["model.embed_tokens.weight"]
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"no file holds model.embed_tokens.weight"):
        load_pretrained(folder)


PEAK = """
import pathlib, sys
import jax
from jaxrl_po.host.language.checkpoints import load_pretrained

def peak():  # of this process: getrusage has that of the one that started it, if it was larger
    found = pathlib.Path("/proc/self/status").read_text().partition("VmHWM:")[2]
    return 1024 * int(found.split()[0])

load_pretrained(sys.argv[1])  # what a small one takes
base = peak()
params = jax.block_until_ready(load_pretrained(sys.argv[2]).params)
print((peak() - base) / sum(x.nbytes for x in jax.tree.leaves(params)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc elsewhere")
def test_loading_takes_no_second_copy_of_the_weights(tmp_path):
    sizes = {"vocab_size": 4000, "hidden_size": 512, "intermediate_size": 1024}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 128}
    sizes |= {"num_hidden_layers": 12, "tie_word_embeddings": True}
    folder = changed(tmp_path / "model", **sizes, **heads)
    D, F = sizes["hidden_size"], sizes["intermediate_size"]
    shapes = {"self_attn.q_proj": (D, D), "mlp.down_proj": (D, F), "mlp.up_proj": (F, D)}
    shapes |= {f"self_attn.{name}_proj": (D, D) for name in "kvo"} | {"mlp.gate_proj": (F, D)}
    shapes |= {f"{name}_layernorm": (D,) for name in ("input", "post_attention")}
    whole = {f"model.layers.{i}.{name}": shape for i in range(12) for name, shape in shapes.items()}
    whole |= {"model.embed_tokens": (sizes["vocab_size"], D), "model.norm": (D,)}
    weights = {f"{name}.weight": np.ones(shape, np.float32) for name, shape in whole.items()}
    save_file(weights, folder / "model.safetensors")
    command = [sys.executable, "-c", PEAK, str(FOLDER / "llama"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.8


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no config.json in .*nowhere"):
        load_pretrained(tmp_path / "nowhere")
    folder = changed(tmp_path / "model")
    with pytest.raises(ValueError, match="dtype='float16' is none of float32, bfloat16"):
        load_pretrained(folder, dtype="float16")
    (folder / "model.safetensors").write_bytes(b"garbage")
    with pytest.raises(ValueError, match=r"model.safetensors is no safetensors file"):
        load_pretrained(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"there is no .*safetensors in"):
        load_pretrained(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json: not JSON"):
        load_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ValueError, match=r"config.json has no 'vocab_size'"):
        load_pretrained(folder)


def test_only_the_models_own_parameters_are_saved_and_nothing_is_overwritten(tmp_path):
    pretrained = load_pretrained(FOLDER / "llama")
    other = {**pretrained.params, "norm": {"scale": jnp.ones(3)}}
    with pytest.raises(ValueError, match=r"params\['norm'\]\['scale'\] is \[3\], where .* \[16\]"):
        save_pretrained(tmp_path / "out", pretrained, other)
    assert not (tmp_path / "out").exists()
    folder = save_pretrained(tmp_path / "out", pretrained)
    with pytest.raises(ValueError, match="already holds a model"):
        save_pretrained(folder, pretrained)

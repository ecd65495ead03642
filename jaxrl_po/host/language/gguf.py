"""A Llama in GGUF, the format of llama.cpp, as a folder of Hugging Face's format."""

import json
import pathlib
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from jaxrl_po.host.language.checkpoints import (
    DTYPES,
    WEIGHTS,
    check_dtype,
    make_model_folder,
    refuse_model,
)
from jaxrl_po.host.machine.imports import import_extra

# How text is cut before its bytes are merged, by llama.cpp's name for it.
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
CUTS: dict[str, list[dict[str, Any]]] = {
    "gpt-2": [BYTES],
    "smollm": [{"type": "Digits", "individual_digits": True}, BYTES],
}
TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
CONTROL = 3  # of tokenizer.ggml.token_type


def read_gguf(
    file: str | pathlib.Path, folder: str | pathlib.Path, dtype: str = "float32"
) -> pathlib.Path:
    """Write a Llama's weights, dequantised, and its tokenizer as `load_pretrained` reads them.

    Args:
        file: a GGUF of the architecture "llama" with a byte-level BPE tokenizer.
        folder: to be made.
        dtype: of the weights, "float32" or "bfloat16".

    Returns:
        The folder.

    Raises:
        ValueError: naming what is not supported.
    """
    gguf = import_extra("gguf", "gguf")
    check_dtype(dtype)
    folder, path = refuse_model(folder), pathlib.Path(file)
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        reader = gguf.GGUFReader(path)
    except ValueError as error:
        raise ValueError(f"{path} is no GGUF: {error}") from error
    found = {name: field.contents() for name, field in reader.fields.items()}
    architecture = found.get("general.architecture")
    if architecture != "llama":
        raise ValueError(f"{path}: general.architecture={architecture!r} is not 'llama'")
    tensors = {t.name: gguf.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    config = hf_config(found, tensors)
    written = hf_tensors(tensors, config)
    files = tokenizer_files(found, path)
    make_model_folder(folder)
    weights = {name: np.ascontiguousarray(x.astype(DTYPES[dtype])) for name, x in written.items()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    for name, content in {**files, "config.json": config | {"torch_dtype": dtype}}.items():
        text = json.dumps(content, ensure_ascii=False, indent=1)
        (folder / name).write_text(text + "\n", encoding="utf-8")
    return folder


def hf_config(found: dict[str, Any], tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    """The config.json of a GGUF's fields."""
    if (
        any(name.startswith("llama.rope.scaling") for name in found)
        or "rope_freqs.weight" in tensors
    ):
        raise ValueError("scaled rotations (llama.rope.scaling) are not read from a GGUF")
    vocab_size, width = tensors["token_embd.weight"].shape
    heads = found["llama.attention.head_count"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocab_size,
        "max_position_embeddings": found["llama.context_length"],
        "num_hidden_layers": found["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": found.get("llama.attention.head_count_kv", heads),
        "head_dim": found.get("llama.attention.key_length", width // heads),
        "hidden_size": width,
        "intermediate_size": found["llama.feed_forward_length"],
        "hidden_act": "silu",
        "rms_norm_eps": round(found["llama.attention.layer_norm_rms_epsilon"], 12),
        "rope_theta": found.get("llama.rope.freq_base", 10_000.0),
        "tie_word_embeddings": "output.weight" not in tensors,
        "bos_token_id": found.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": found["tokenizer.ggml.eos_token_id"],
    }


def hf_tensors(tensors: dict[str, np.ndarray], config: dict[str, Any]) -> dict[str, np.ndarray]:
    """Tensors by Hugging Face's names, rows of queries and keys back in halves.

    llama.cpp turns neighbours (2i, 2i + 1) of a head, Hugging Face (i, i + d/2): the rows of their
    weights are in another order.
    """
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    written = {}
    for name, array in tensors.items():
        first, *rest = name.split(".")
        if first == "blk":
            layer, ours, end = rest
            if ours not in TENSORS:
                raise ValueError(f"tensor {name} has no place in a Llama")
            if ours in heads:
                rows = array.reshape(heads[ours], -1, 2, *array.shape[1:])
                array = rows.swapaxes(1, 2).reshape(array.shape)
            written[f"model.layers.{layer}.{TENSORS[ours]}.{end}"] = array
        elif first in WHOLE:
            written[f"{WHOLE[first]}.{rest[0]}"] = array
        else:
            raise ValueError(f"tensor {name} has no place in a Llama")
    return written


def tokenizer_files(found: dict[str, Any], path: pathlib.Path) -> dict[str, dict[str, Any]]:
    """tokenizer.json, tokenizer_config.json and generation_config.json of a byte-level BPE."""
    kind, cut = found.get("tokenizer.ggml.model"), found.get("tokenizer.ggml.pre", "gpt-2")
    if kind != "gpt2" or cut not in CUTS:
        raise ValueError(
            f"{path}: tokenizer {kind!r} cut by {cut!r} is not a byte-level BPE cut by "
            f"{' or '.join(map(repr, CUTS))}"
        )
    tokens = found["tokenizer.ggml.tokens"]
    kinds = found["tokenizer.ggml.token_type"]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    special = [
        {"id": i, "content": token, **flags, "special": True}
        for i, (token, of) in enumerate(zip(tokens, kinds, strict=True))
        if of == CONTROL
    ]
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": CUTS[cut]},
        "post_processor": None,
        "decoder": BYTES,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": found["tokenizer.ggml.merges"],
        },
    }
    ids = {name: found.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos")}
    settings = {f"{name}_token": tokens[i] for name, i in ids.items() if i is not None}
    if "tokenizer.chat_template" in found:
        settings["chat_template"] = found["tokenizer.chat_template"]
    return {
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", **settings},
        "generation_config.json": {f"{name}_token_id": i for name, i in ids.items()},
    }

"""Families of checkpoints in Hugging Face's format: their settings, and the names of their tensors.

Pure tables and functions of plain dicts; `jaxrl_po.host.language.checkpoints` reads the files.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxrl_po.rlhf.models.config import TransformerConfig

Settings = dict[str, Any]
HFConfig = Mapping[str, Any]  # of config.json

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


class Tensor(NamedTuple):
    """Where a parameter lies in a checkpoint."""

    path: tuple[str, ...]  # in the transformer's parameters
    name: str  # in the checkpoint; {i} is the layer
    transposed: bool = False  # written [out, in], as torch's Linear has it
    part: tuple[int, int] = (0, 1)  # (k, n): the k-th of n equal parts of the last axis


def family_of(hf: HFConfig) -> str:
    """The family of a config.json.

    Raises:
        ValueError: when it is none of those known.
    """
    family = str(hf.get("model_type"))
    if family not in FAMILIES:
        hint = (
            ": it has a picture encoder; take a text-only checkpoint (gemma3_text)"
            if family == "gemma3"
            else ""
        )
        raise ValueError(
            f"config.json: model_type={family!r} is none of {', '.join(FAMILIES)}{hint}"
        )
    for field in ("quantization_config", "num_local_experts"):
        if hf.get(field):
            raise ValueError(f"config.json: {field} is not read: {hf[field]!r}")
    return family


def transformer_config(hf: HFConfig, **options: Any) -> TransformerConfig:
    """The transformer that a config.json describes.

    Args:
        hf: the parsed config.json.
        options: further fields of `TransformerConfig`: compute_dtype, remat, context_length.

    Raises:
        ValueError: naming what the transformer has no option for.
    """
    return TransformerConfig(**{**FAMILIES[family_of(hf)].settings(hf), **options})


def _activation(name: str) -> str:
    if name not in ACTIVATIONS:
        raise ValueError(f"config.json: activation {name!r} is none of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def _gpt2(hf: HFConfig) -> Settings:
    for field in ("scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn"):
        if hf.get(field):
            raise ValueError(f"config.json: {field}=true is not supported")
    if not hf.get("scale_attn_weights", True):
        raise ValueError("config.json: scale_attn_weights=false is not supported")
    return {
        "vocab_size": hf["vocab_size"],
        "context_length": hf["n_positions"],
        "num_layers": hf["n_layer"],
        "num_heads": hf["n_head"],
        "num_features": hf["n_embd"],
        "feedforward_size": hf.get("n_inner") or 0,
        "activation": _activation(hf.get("activation_function", "gelu_new")),
        "norm_eps": hf.get("layer_norm_epsilon", 1e-5),
        "qkv_bias": True,
        "tied_embedding": hf.get("tie_word_embeddings", True),
    }


def _rotary(hf: HFConfig) -> Settings:
    """What all families with rotary positions share; those of Llama where nothing else is said."""
    full, sliding = _rope(hf)
    kind = full.get("rope_type", full.get("type", "default"))
    settings: Settings = {
        "vocab_size": hf["vocab_size"],
        "context_length": hf["max_position_embeddings"],
        "num_layers": hf["num_hidden_layers"],
        "num_heads": hf["num_attention_heads"],
        "num_kv_heads": hf.get("num_key_value_heads") or 0,
        "num_features": hf["hidden_size"],
        "head_size": hf.get("head_dim") or 0,
        "feedforward_size": hf["intermediate_size"],
        "activation": _activation(hf.get("hidden_act", "silu")),
        "gated": True,
        "norm": "rms",
        "norm_eps": hf.get("rms_norm_eps", 1e-6),
        "positions": "rotary",
        "rope_theta": full.get("rope_theta", 10_000.0),
        "attention_bias": False,
        "feedforward_bias": False,
        "tied_embedding": hf.get("tie_word_embeddings", False),
    }
    if kind == "linear":
        settings |= {"rope_scaling": "linear", "rope_factor": full["factor"]}
    elif kind == "llama3":
        settings |= {
            "rope_scaling": "llama3",
            "rope_factor": full["factor"],
            "rope_low_factor": full["low_freq_factor"],
            "rope_high_factor": full["high_freq_factor"],
            "rope_context": full["original_max_position_embeddings"],
        }
    elif kind != "default":
        raise ValueError(f"config.json: rope_type={kind!r} is none of default, linear, llama3")
    if sliding:
        settings["sliding_rope_theta"] = sliding
    return settings


def _rope(hf: HFConfig) -> tuple[dict[str, Any], float]:
    """Rotations of layers that see all, and θ of those that slide, 0 if it is the same.

    Newer files have them in `rope_parameters`, older ones in `rope_theta` and `rope_scaling`.
    """
    own = hf.get("rope_parameters")
    if own and "full_attention" in own:
        slides = own.get("sliding_attention") or own["full_attention"]
        return own["full_attention"], slides["rope_theta"]
    if own:
        return own, 0.0
    full = dict(hf.get("rope_scaling") or {})
    full["rope_theta"] = hf.get("rope_theta", 10_000.0)
    return full, hf.get("rope_local_base_freq", 0.0)


def _slides(hf: HFConfig, otherwise: Callable[[int], bool]) -> Settings:
    """The window, and which layers slide: as the file says, or else by the layer's number."""
    window, num_layers = hf.get("sliding_window") or 0, hf["num_hidden_layers"]
    kinds = hf.get("layer_types")
    slides = tuple(
        int(kinds[i] == "sliding_attention" if kinds else otherwise(i)) for i in range(num_layers)
    )
    if not window or not any(slides):
        return {}
    return {"sliding_window": window, "sliding_layers": () if all(slides) else slides}


def _llama(hf: HFConfig) -> Settings:
    bias = hf.get("attention_bias", False)
    return _rotary(hf) | {
        "qkv_bias": bias,
        "attention_bias": bias,
        "feedforward_bias": hf.get("mlp_bias", False),
    }


def _mistral(hf: HFConfig) -> Settings:
    return _rotary(hf) | _slides(hf, lambda i: True)


def _qwen(hf: HFConfig) -> Settings:
    if not hf.get("use_sliding_window", False):
        return _rotary(hf)
    return _rotary(hf) | _slides(hf, lambda i: i >= hf["max_window_layers"])


def _qwen2(hf: HFConfig) -> Settings:
    return _qwen(hf) | {"qkv_bias": True}


def _qwen3(hf: HFConfig) -> Settings:
    bias = hf.get("attention_bias", False)
    return _qwen(hf) | {"qk_norm": True, "qkv_bias": bias, "attention_bias": bias}


def _gemma(hf: HFConfig) -> Settings:
    # The file's hidden_act is of no effect in this family; hidden_activation is what counts.
    hidden = hf.get("hidden_activation") or "gelu_pytorch_tanh"
    return _rotary(hf) | {
        "activation": _activation(hidden),
        "norm_offset": True,
        "scaled_embedding": True,
        "tied_embedding": hf.get("tie_word_embeddings", True),
    }


def _gemma2(hf: HFConfig) -> Settings:
    return (
        _gemma(hf)
        | _slides(hf, lambda i: i % 2 == 0)
        | {
            "post_norms": True,
            "attention_scale": hf["query_pre_attn_scalar"] ** -0.5,
            "attention_softcap": hf.get("attn_logit_softcapping") or 0.0,
            "logit_softcap": hf.get("final_logit_softcapping") or 0.0,
        }
    )


def _gemma3(hf: HFConfig) -> Settings:
    pattern = hf.get("sliding_window_pattern", 6)
    settings = _gemma2(hf) | {"qk_norm": True} | _slides(hf, lambda i: (i + 1) % pattern != 0)
    if not settings.get("sliding_window"):
        settings.pop("sliding_rope_theta", None)
    return settings


def _llama_tensors(config: TransformerConfig) -> list[Tensor]:
    """Names that all families but GPT-2 share."""
    layer = "model.layers.{i}."
    found = [
        Tensor(("embedding", "embedding"), "model.embed_tokens.weight"),
        Tensor(("norm", "scale"), "model.norm.weight"),
        Tensor(("layers", "attention_norm", "scale"), f"{layer}input_layernorm.weight"),
    ]
    if not config.tied_embedding:
        found.append(Tensor(("unembedding", "kernel"), "lm_head.weight", transposed=True))

    def linear(ours: str, theirs: str, bias: bool) -> None:
        path = "layers", ours
        found.append(Tensor((*path, "kernel"), f"{layer}{theirs}.weight", transposed=True))
        if bias:
            found.append(Tensor((*path, "bias"), f"{layer}{theirs}.bias"))

    for ours, theirs in (("query", "q"), ("key", "k"), ("value", "v")):
        linear(ours, f"self_attn.{theirs}_proj", config.qkv_bias)
        if config.qk_norm and ours != "value":
            path = "layers", f"{ours}_norm", "scale"
            found.append(Tensor(path, f"{layer}self_attn.{theirs}_norm.weight"))
    linear("attention_out", "self_attn.o_proj", config.attention_bias)
    for ours, theirs in (("gate", "gate"), ("in", "up"), ("out", "down")):
        linear(f"feedforward_{ours}", f"mlp.{theirs}_proj", config.feedforward_bias)
    norms = {"feedforward_norm": "post_attention"}
    if config.post_norms:
        norms = {
            "attention_post_norm": "post_attention",
            "feedforward_norm": "pre_feedforward",
            "feedforward_post_norm": "post_feedforward",
        }
    for ours, theirs in norms.items():
        found.append(Tensor(("layers", ours, "scale"), f"{layer}{theirs}_layernorm.weight"))
    return found


def _gpt2_tensors(config: TransformerConfig) -> list[Tensor]:
    """GPT-2's names; its matrices are written [in, out], queries, keys and values in a row."""
    layer = "transformer.h.{i}."
    found = [
        Tensor(("embedding", "embedding"), "transformer.wte.weight"),
        Tensor(("position", "embedding"), "transformer.wpe.weight"),
    ]
    if not config.tied_embedding:
        found.append(Tensor(("unembedding", "kernel"), "lm_head.weight", transposed=True))
    norms = {"attention_norm": "ln_1", "feedforward_norm": "ln_2"}
    for ours, theirs in (("scale", "weight"), ("bias", "bias")):
        found.append(Tensor(("norm", ours), f"transformer.ln_f.{theirs}"))
        found += [
            Tensor(("layers", name, ours), f"{layer}{norm}.{theirs}")
            for name, norm in norms.items()
        ]
    places = [(name, "attn.c_attn", (k, 3)) for k, name in enumerate(("query", "key", "value"))]
    places += [("attention_out", "attn.c_proj", (0, 1)), ("feedforward_in", "mlp.c_fc", (0, 1))]
    places += [("feedforward_out", "mlp.c_proj", (0, 1))]
    for name, theirs, part in places:
        for ours, end in (("kernel", "weight"), ("bias", "bias")):
            found.append(Tensor(("layers", name, ours), f"{layer}{theirs}.{end}", part=part))
    return found


class Family(NamedTuple):
    """What is special about a family."""

    settings: Callable[[HFConfig], Settings]
    tensors: Callable[[TransformerConfig], list[Tensor]] = _llama_tensors


FAMILIES = {
    "gpt2": Family(_gpt2, _gpt2_tensors),
    "llama": Family(_llama),
    "mistral": Family(_mistral),
    "qwen2": Family(_qwen2),
    "qwen3": Family(_qwen3),
    "gemma": Family(_gemma),
    "gemma2": Family(_gemma2),
    "gemma3_text": Family(_gemma3),
}

"""Families of checkpoints in Hugging Face's format: what their config.json says of a decoder.

Pure tables and functions of plain dicts; `jaxrl_po.host.language.checkpoints` reads the files.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxrl_po.rlhf.models.config import TransformerConfig
from jaxrl_po.rlhf.models.tensors import Tensor, gpt2_tensors, llama_tensors

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


LAYER_TYPES = {"full_attention", "sliding_attention"}


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
    family = family_of(hf)
    try:
        settings = FAMILIES[family].settings(hf)
    except KeyError as missing:
        raise ValueError(f"config.json has no {missing}") from missing
    except (TypeError, AttributeError) as error:
        raise ValueError(f"config.json is not that of a {family}: {error}") from error
    length, own = options.get("context_length"), settings["context_length"]
    if length is not None and (length > own or settings.get("positions") != "rotary"):
        raise ValueError(
            f"context_length={length} must be at most {own}, "
            "and a table of learned positions is not cut"
        )
    return TransformerConfig(**{**settings, **options})


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
    if hf.get("use_bidirectional_attention"):
        raise ValueError("config.json: use_bidirectional_attention=true is no language model")
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
        if slides.get("rope_type", "default") != "default" and slides != own["full_attention"]:
            raise ValueError("config.json: rotations of sliding layers are scaled: not supported")
        return own["full_attention"], slides["rope_theta"]
    theta = hf.get("rope_theta") or (1e6 if hf["model_type"] == "gemma3_text" else 1e4)
    if own:
        return {"rope_theta": theta} | own, 0.0
    local = 1e4 if hf["model_type"] == "gemma3_text" else 0.0
    return dict(hf.get("rope_scaling") or {}) | {"rope_theta": theta}, hf.get(
        "rope_local_base_freq", local
    )


def _slides(hf: HFConfig, otherwise: Callable[[int], bool]) -> Settings:
    """The window, and which layers slide: as the file says, or else by the layer's number."""
    window, num_layers = hf.get("sliding_window", 4096) or 0, hf["num_hidden_layers"]
    kinds = hf.get("layer_types")
    if kinds and (len(kinds) != num_layers or not set(kinds) <= LAYER_TYPES):
        raise ValueError(
            f"config.json: layer_types={kinds} must be one of {', '.join(sorted(LAYER_TYPES))} "
            f"for each of {num_layers} layers"
        )
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
    own = {"qk_norm": True, "qkv_bias": bias, "attention_bias": bias}
    return _qwen(hf) | own | {"head_size": hf.get("head_dim") or 128}


def _gemma(hf: HFConfig) -> Settings:
    hidden = hf.get("hidden_activation")
    if not hidden and hf["model_type"] == "gemma":  # its first files meant the approximation
        hidden = None if hf.get("hidden_act") == "gelu" else hf.get("hidden_act")
    return _rotary({**hf, "hidden_act": hidden or "gelu_pytorch_tanh"}) | {
        "head_size": hf.get("head_dim") or 256,
        "norm_offset": True,
        "scaled_embedding": True,
        "tied_embedding": hf.get("tie_word_embeddings", True),
    }


def _normed(hf: HFConfig) -> Settings:
    """What Gemma 2 and 3 share."""
    return _gemma(hf) | {
        "post_norms": True,
        "attention_scale": hf.get("query_pre_attn_scalar", 256) ** -0.5,
        "logit_softcap": hf.get("final_logit_softcapping") or 0.0,
    }


def _gemma2(hf: HFConfig) -> Settings:
    cap = {"attention_softcap": hf.get("attn_logit_softcapping") or 0.0}
    return _normed(hf) | cap | _slides(hf, lambda i: i % 2 == 0)


def _gemma3(hf: HFConfig) -> Settings:
    # transformers does not apply the cap of attention scores that a file may name.
    pattern = hf.get("sliding_window_pattern") or 6
    settings = _normed(hf) | {"qk_norm": True} | _slides(hf, lambda i: (i + 1) % pattern != 0)
    if not settings.get("sliding_window"):
        settings.pop("sliding_rope_theta", None)
    return settings


class Family(NamedTuple):
    """What is special about a family."""

    settings: Callable[[HFConfig], Settings]
    tensors: Callable[[TransformerConfig], list[Tensor]] = llama_tensors


FAMILIES = {
    "gpt2": Family(_gpt2, gpt2_tensors),
    "llama": Family(_llama),
    "mistral": Family(_mistral),
    "qwen2": Family(_qwen2),
    "qwen3": Family(_qwen3),
    "gemma": Family(_gemma),
    "gemma2": Family(_gemma2),
    "gemma3_text": Family(_gemma3),
}

"""What a config.json says, in the words of older and newer writers, and what is refused."""

import pytest

from jaxrl_po.rlhf.models.families import transformer_config

SIZES = {
    "vocab_size": 48,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 32,
}
LINEAR = {"rope_type": "linear", "rope_theta": 100.0, "factor": 2.0}
FULL, SLIDING = "full_attention", "sliding_attention"


def described(family, **fields):
    return transformer_config({**SIZES, "model_type": family, **fields})


@pytest.mark.parametrize(
    ("family", "fields", "expected"),
    [
        # Every layer of a pattern of one sees all; Gemma 2's alternation must not shine through.
        ("gemma3_text", {"sliding_window_pattern": 1}, {"sliding_window": 0}),
        ("gemma3_text", {}, {"rope_theta": 1e6, "sliding_rope_theta": 1e4, "sliding_window": 4096}),
        ("gemma3_text", {"attn_logit_softcapping": 2.0}, {"attention_softcap": 0.0}),
        ("gemma2", {"attn_logit_softcapping": 2.0}, {"attention_softcap": 2.0}),
        ("gemma2", {}, {"sliding_layers": (1, 0, 1), "attention_scale": 1 / 16}),
        ("gemma", {"hidden_act": "relu"}, {"activation": "relu"}),
        ("gemma", {"hidden_act": "gelu"}, {"activation": "gelu_tanh"}),
        ("gemma", {"hidden_act": "relu", "hidden_activation": "gelu"}, {"activation": "gelu"}),
        ("gemma", {"head_dim": None}, {"head_size": 256}),
        ("gemma2", {"hidden_act": "relu"}, {"activation": "gelu_tanh"}),
        ("qwen3", {"head_dim": None}, {"head_size": 128, "qk_norm": True}),
        ("qwen2", {"sliding_window": 4}, {"sliding_window": 0, "qkv_bias": True}),
        ("mistral", {}, {"sliding_window": 4096, "sliding_layers": ()}),
        ("mistral", {"sliding_window": None}, {"sliding_window": 0}),
        ("llama", {"rope_theta": 7.0}, {"rope_theta": 7.0}),
        ("llama", {"rope_theta": 7.0, "rope_parameters": {"type": "default"}}, {"rope_theta": 7.0}),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 3.0}}, {"rope_factor": 3.0}),
    ],
)
def test_what_a_file_says(family, fields, expected):
    found = described(family, **fields)
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("family", "fields", "message"),
    [
        ("gemma3_text", {"use_bidirectional_attention": True}, "is no language model"),
        (
            "gemma3_text",
            {"rope_parameters": {FULL: {"rope_theta": 1.0}, SLIDING: LINEAR}},
            "rotations of sliding layers are scaled",
        ),
        ("mistral", {"layer_types": [FULL]}, "layer_types=.* for each of 3 layers"),
        ("mistral", {"layer_types": ["chunked_attention"] * 3}, "must be one of full_attention"),
        ("llama", {"rope_parameters": [1]}, "config.json is not that of a llama"),
        ("llama", {"num_hidden_layers": "3"}, "num_layers"),
        ("gemma2", {"query_pre_attn_scalar": None}, "config.json is not that of a gemma2"),
    ],
)
def test_what_is_refused(family, fields, message):
    with pytest.raises(ValueError, match=message):
        described(family, **fields)

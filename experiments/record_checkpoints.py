"""Tiny random checkpoints of each family, with the logits that transformers computes of them.

Run once, in an environment of its own, whenever a family is added; tests read what it writes:

    pip install torch transformers
    python experiments/record_checkpoints.py tests/host/language/checkpoints
    python experiments/record_checkpoints.py tests/host/language/checkpoints --check WRITTEN
"""

import argparse
import importlib.metadata
import json
import pathlib
from typing import Any

import numpy as np
import torch
import transformers

VOCABULARY, CONTEXT = 48, 32
SHARED = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": (
        "gpt2",
        {
            "vocab_size": VOCABULARY,
            "n_positions": CONTEXT,
            "n_embd": 16,
            "n_layer": 3,
            "n_head": 4,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
    ),
    "llama": ("llama", SHARED | {"rope_parameters": LLAMA3, "tie_word_embeddings": False}),
    "llama_linear": (
        "llama",
        SHARED
        | {
            "rope_parameters": {"rope_type": "linear", "rope_theta": 100.0, "factor": 2.0},
            "attention_bias": True,
            "mlp_bias": True,
            "tie_word_embeddings": True,
        },
    ),
    "mistral": ("mistral", SHARED | {"sliding_window": 4, "head_dim": 6}),
    "qwen2": ("qwen2", SHARED | {"tie_word_embeddings": True}),
    "qwen2_sliding": (
        "qwen2",
        SHARED | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    ),
    "qwen3": ("qwen3", SHARED | {"head_dim": 6}),
    "gemma": ("gemma", SHARED | {"head_dim": 6}),
    "gemma2": (
        "gemma2",
        SHARED
        | {
            "head_dim": 6,
            "sliding_window": 4,
            "query_pre_attn_scalar": 10,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
        },
    ),
    "gemma3": (
        "gemma3_text",
        SHARED
        | {
            "head_dim": 6,
            "sliding_window": 4,
            "query_pre_attn_scalar": 10,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "rope_theta": 100.0, "factor": 2.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10.0},
            },
        },
    ),
}


def logits_of(model: Any, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Logits [N, L, V] by transformers, of tokens [N, L]."""
    position = np.maximum(mask.cumsum(axis=1) - 1, 0)
    with torch.no_grad():
        logits: np.ndarray = model(
            input_ids=torch.tensor(ids),
            attention_mask=torch.tensor(mask.astype(np.int64)),
            position_ids=torch.tensor(position),
        ).logits.numpy()
    return logits


def check(folder: pathlib.Path, recorded: pathlib.Path) -> None:
    """Load a written folder with transformers and compare its logits with those recorded."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    )
    found = np.load(recorded / "logits.npz")
    logits = logits_of(model.eval(), found["ids"], found["mask"])
    gap = np.abs(np.where(found["mask"][..., None], logits - found["logits"], 0)).max()
    print(f"{folder.name}: largest difference {gap:.1e} of {np.abs(found['logits']).max():.2f}")


def record(name: str, folder: pathlib.Path) -> None:
    """One checkpoint, and logits.npz beside it: of tokens [N, L] padded on the left."""
    kind, settings = FAMILIES[name]
    torch.manual_seed(len(name))
    config = transformers.AutoConfig.for_model(kind, **settings)
    config._attn_implementation = "eager"  # the one that knows soft caps
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():  # weights that make a difference, norms and biases among them
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    rng = np.random.default_rng(0)
    lengths = [12, 9, 5]
    mask = np.arange(max(lengths))[None] >= max(lengths) - np.array(lengths)[:, None]
    ids = np.where(mask, rng.integers(3, VOCABULARY, mask.shape), 0)
    logits = logits_of(model, ids, mask)
    np.savez_compressed(folder / "logits.npz", ids=ids, mask=mask, logits=logits)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{name}: {size / 1000:.0f} kB, logits to {np.abs(logits).max():.2f}")


def main() -> None:
    """Record the families named, or all of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("names", nargs="*", choices=[*FAMILIES, []], metavar="name")
    parser.add_argument("--check", type=pathlib.Path, help="folder of folders to compare instead")
    arguments = parser.parse_args()
    if arguments.check:
        for folder in sorted(arguments.check.iterdir()):
            check(folder, arguments.folder / folder.name)
        return
    for name in arguments.names or FAMILIES:
        record(name, arguments.folder / name)
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers")}
    (arguments.folder / "versions.json").write_text(json.dumps(versions) + "\n")


if __name__ == "__main__":
    main()

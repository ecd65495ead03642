"""Where the decoder's parameters lie in a checkpoint of Hugging Face's format: names and forms."""

from typing import NamedTuple

from jaxrl_po.rlhf.models.config import TransformerConfig


class Tensor(NamedTuple):
    """Where a parameter lies in a checkpoint."""

    path: tuple[str, ...]  # in the transformer's parameters
    name: str  # in the checkpoint; {i} is the layer
    transposed: bool = False  # written [out, in], as torch's Linear has it
    part: tuple[int, int] = (0, 1)  # (k, n): the k-th of n equal parts of the last axis


def llama_tensors(config: TransformerConfig) -> list[Tensor]:
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


def gpt2_tensors(config: TransformerConfig) -> list[Tensor]:
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

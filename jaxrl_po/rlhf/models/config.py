"""What a decoder-only transformer is made of: sizes, and the options in which families differ."""

import dataclasses
from typing import Annotated

from jaxrl_po.config import COUNT, NON_NEGATIVE, POSITIVE, Range, Settings, pytree, setting

OR_DEFAULT = Range(0)  # a size, or 0 for what another size makes it


@pytree
@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig(Settings):
    """A decoder: the defaults are small and in the manner of GPT-2; `families` has others."""

    # V, tokens it knows
    vocab_size: int = setting(256, COUNT)
    # slots a sequence may have, prompt and response together
    context_length: int = setting(64, COUNT)
    # layers, each attention and a feed-forward network
    num_layers: int = setting(2, COUNT)
    # attention heads
    num_heads: int = setting(4, COUNT)
    # D, width of the residual stream
    num_features: int = setting(64, COUNT)
    # heads of keys and values, each shared by a group of queries; 0 for num_heads
    # (Ainslie et al. 2023, arXiv:2305.13245)
    num_kv_heads: int = setting(0, OR_DEFAULT)
    # width of a head; 0 for num_features / num_heads
    head_size: int = setting(0, OR_DEFAULT)
    # width within a feed-forward network; 0 for 4 num_features
    feedforward_size: int = setting(0, OR_DEFAULT)
    # between its layers; gelu_tanh is the approximation that GPT-2 and Gemma use
    activation: str = setting("gelu_tanh", ("gelu", "gelu_tanh", "relu", "silu"))
    # f(x W) · x V in place of f(x W) (Shazeer 2020, arXiv:2002.05202)
    gated: bool = False
    # (x - mean) / std, or x / root mean square (arXiv:1910.07467)
    norm: str = setting("layer", ("layer", "rms"))
    # added to the variance
    norm_eps: Annotated[float, "static"] = setting(1e-6, POSITIVE)
    # a norm's scale is 1 + its weight (Gemma)
    norm_offset: bool = False
    # norms of what a layer adds, too (Gemma 2)
    post_norms: bool = False
    # a norm of each query and key (Qwen3, Gemma 3)
    qk_norm: bool = False
    # a table, or rotations of queries and keys (Su et al. 2021, arXiv:2104.09864)
    positions: str = setting("learned", ("learned", "rotary"))
    # the longest wave is 2 π times this, in tokens
    rope_theta: Annotated[float, "static"] = setting(10_000.0, POSITIVE)
    # longer waves for longer contexts: all of them, or the long ones alone (Llama 3)
    rope_scaling: str = setting("none", ("none", "linear", "llama3"))
    # how much longer
    rope_factor: Annotated[float, "static"] = setting(1.0, POSITIVE)
    # llama3: waves longer than rope_context / rope_low_factor become longer in full
    rope_low_factor: Annotated[float, "static"] = setting(1.0, POSITIVE)
    # llama3: waves shorter than rope_context / rope_high_factor stay as they are
    rope_high_factor: Annotated[float, "static"] = setting(4.0, POSITIVE)
    # llama3: tokens of the context before
    rope_context: int = setting(8192, COUNT)
    # biases of queries, keys and values
    qkv_bias: bool = False
    # a bias of the attention's output
    attention_bias: bool = True
    # biases of the feed-forward network
    feedforward_bias: bool = True
    # what scores are multiplied by; 0 for 1 / √head_size
    attention_scale: Annotated[float, "static"] = setting(0.0, NON_NEGATIVE)
    # c of c tanh(x / c) of attention scores; 0 for none (Gemma 2)
    attention_softcap: Annotated[float, "static"] = setting(0.0, NON_NEGATIVE)
    # c of c tanh(x / c) of logits; 0 for none (Gemma 2)
    logit_softcap: Annotated[float, "static"] = setting(0.0, NON_NEGATIVE)
    # tokens that a sliding layer sees, itself among them; 0 for all
    sliding_window: int = setting(0, OR_DEFAULT)
    # which layers slide, a 1 or 0 each; all of them if empty
    sliding_layers: tuple[int, ...] = ()
    # rope_theta of sliding layers, unscaled; 0 for that of the others (Gemma 3)
    sliding_rope_theta: Annotated[float, "static"] = setting(0.0, NON_NEGATIVE)
    # logits by the embedding's own rows, or by a matrix of their own
    tied_embedding: bool = True
    # embeddings times √num_features (Gemma)
    scaled_embedding: bool = False
    # what it computes in; "" for the precision of the weights
    compute_dtype: str = setting("", ("", "bfloat16", "float32"))
    # compute a layer again in the backward pass, rather than keep what it computed
    remat: bool = False

    def validate(self) -> None:
        """Check that the sizes fit each other, and that options act on something."""
        if not self.head_size and self.num_features % self.num_heads:
            raise ValueError(
                f"num_heads={self.num_heads} does not divide num_features={self.num_features}"
            )
        if self.num_heads % self.kv_heads:
            raise ValueError(
                f"num_kv_heads={self.num_kv_heads} does not divide num_heads={self.num_heads}"
            )
        rotary, scaled = self.positions == "rotary", self.rope_scaling != "none"
        if rotary and self.head_width % 2:
            raise ValueError(f"positions='rotary' turns pairs: a head of {self.head_width} is odd")
        self.check_effect("norm_offset", self.norm == "rms", "norm='rms'")
        self.check_effect("rope_theta", rotary, "positions='rotary'")
        self.check_effect("rope_scaling", rotary, "positions='rotary'")
        self.check_effect("rope_factor", scaled, "rope_scaling='linear' or 'llama3'")
        for name in ("rope_low_factor", "rope_high_factor", "rope_context"):
            self.check_effect(name, self.rope_scaling == "llama3", "rope_scaling='llama3'")
        for name in ("sliding_layers", "sliding_rope_theta"):
            self.check_effect(name, self.sliding_window, "sliding_window > 0")
        self.check_effect("sliding_rope_theta", rotary, "positions='rotary'")
        if self.sliding_layers and (
            len(self.sliding_layers) != self.num_layers or not {0, 1} >= set(self.sliding_layers)
        ):
            raise ValueError(
                f"sliding_layers={list(self.sliding_layers)} must be a 1 or a 0 for each of "
                f"num_layers={self.num_layers}"
            )

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.num_kv_heads or self.num_heads

    @property
    def head_width(self) -> int:
        """Numbers in a head."""
        return self.head_size or self.num_features // self.num_heads

    @property
    def feedforward_width(self) -> int:
        """Numbers within a feed-forward network."""
        return self.feedforward_size or 4 * self.num_features

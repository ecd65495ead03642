"""RLHF: the library's own updates acting on token sequences, as one compiled program."""

from jaxrl_po.rlhf.config import RLHFConfig
from jaxrl_po.rlhf.generation import generate
from jaxrl_po.rlhf.train import RLHFResult, RLHFState, make_rlhf, make_rlhf_step
from jaxrl_po.rlhf.transformer import TransformerConfig, make_transformer
from jaxrl_po.rlhf.types import Generation, LanguageModel, Tokens

__all__ = [
    "Generation",
    "LanguageModel",
    "RLHFConfig",
    "RLHFResult",
    "RLHFState",
    "Tokens",
    "TransformerConfig",
    "generate",
    "make_rlhf",
    "make_rlhf_step",
    "make_transformer",
]

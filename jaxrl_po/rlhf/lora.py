"""Low-rank adapters (Hu et al. 2021, arXiv:2106.09685): what is learned beside frozen weights."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_po.config import POSITIVE, Range, Settings, pytree, setting
from jaxrl_po.rlhf.types import LanguageModel, Tokens
from jaxrl_po.types import Array, PyTree

ATTENTION = "query", "key", "value", "attention_out"
FEEDFORWARD = "feedforward_gate", "feedforward_in", "feedforward_out"
GROUPS = {"all": (*ATTENTION, *FEEDFORWARD), "attention": ATTENTION, "feedforward": FEEDFORWARD}


@pytree
@dataclasses.dataclass(frozen=True, kw_only=True)
class LoRAConfig(Settings):
    """x W becomes x (W + α/r A B), where W stays as it is and A B has rank r."""

    # r, columns of A; 0 to learn all weights
    rank: int = setting(0, Range(0))
    # α, the size of what is learned: a step of the same rate goes as far at every rank
    alpha: float = setting(16.0, POSITIVE)
    # dense maps that are adapted, apart by commas: of query, key, value, attention_out,
    # feedforward_gate, feedforward_in, feedforward_out; or attention, feedforward, all
    targets: str = "all"

    def validate(self) -> None:
        """Check the names of the targets, and that there is something to adapt."""
        names = self.targets.split(",")
        unknown = [name for name in names if name not in GROUPS and name not in GROUPS["all"]]
        if unknown:
            raise ValueError(
                f"targets={self.targets!r}: {unknown[0]!r} is none of "
                f"{', '.join((*GROUPS, *GROUPS['all']))}"
            )
        for name in ("alpha", "targets"):
            self.check_effect(name, self.rank, "rank > 0")

    @property
    def names(self) -> tuple[str, ...]:
        """The dense maps that are adapted."""
        names = [n for target in self.targets.split(",") for n in GROUPS.get(target, (target,))]
        return tuple(dict.fromkeys(names))


def init_adapters(key: Array, base: PyTree, config: LoRAConfig) -> PyTree:
    """Adapters that change nothing yet: A ~ N(0, 1/inputs), B = 0, in single precision.

    Args:
        key: of the A.
        base: parameters of a transformer.
        config: rank and targets.

    Returns:
        {"layers": {target: {"lora_a" [layers, inputs, r], "lora_b" [layers, r, outputs]}}}.

    Raises:
        ValueError: when the parameters have none of the targets.
    """
    layers = base.get("layers", {}) if isinstance(base, dict) else {}
    names = [name for name in config.names if "kernel" in layers.get(name, {})]
    named = [name for name in config.targets.split(",") if name not in GROUPS]
    if missing := [name for name in named if name not in names]:
        raise ValueError(
            f"lora.targets={config.targets!r}: the model has no {missing[0]} in params['layers']"
        )
    if not names:
        raise ValueError(
            f"lora.targets={config.targets!r}: the model has none of them in params['layers']"
        )
    adapters = {}
    for name, own_key in zip(names, jax.random.split(key, len(names)), strict=True):
        inputs, outputs = matrix_size(name, layers[name]["kernel"])
        num_layers = layers[name]["kernel"].shape[0]
        down = jax.random.normal(own_key, (num_layers, inputs, config.rank)) / inputs**0.5
        up = jnp.zeros((num_layers, config.rank, outputs), down.dtype)
        adapters[name] = {"lora_a": down, "lora_b": up}
    return {"layers": adapters}


def matrix_size(name: str, kernel: Array) -> tuple[int, int]:
    """Inputs and outputs of a dense map [layers, ...] whose heads may have an axis of their own."""
    _, *shape = kernel.shape
    size = kernel[0].size if isinstance(kernel, jax.Array) else kernel.size // kernel.shape[0]
    inputs = size // shape[-1] if name == "attention_out" else shape[0]
    return inputs, size // inputs


def adapted(model: LanguageModel, base: PyTree, config: LoRAConfig) -> LanguageModel:
    """The model as a function of its adapters alone, its other weights given and frozen.

    Under vmap over adapters the base is not copied: policies of many seeds, a critic and their
    reference share one.
    """

    def init(key: Array) -> PyTree:
        return init_adapters(key, base, config)

    def apply(adapters: PyTree, tokens: Tokens, cache: Any = None) -> tuple[Array, Any]:
        return model.apply(attach(base, adapters, config), tokens, cache)

    def logits(adapters: PyTree, features: Array) -> Array:
        return model.logits(attach(base, adapters, config), features)

    return model._replace(init=init, apply=apply, logits=logits)


def attach(base: PyTree, adapters: PyTree, config: LoRAConfig) -> PyTree:
    """The base's parameters with adapters beside the kernels that they adapt, α/r in B."""
    layers = dict(base["layers"])
    for name, own in adapters["layers"].items():
        scaled = own["lora_b"] * (config.alpha / config.rank)
        layers[name] = {**layers[name], "lora_a": own["lora_a"], "lora_b": scaled}
    return {**base, "layers": layers}


def merge(base: PyTree, adapters: PyTree, config: LoRAConfig) -> PyTree:
    """The base's parameters with W + α/r A B in place of W, in W's precision: a plain model."""
    layers = dict(base["layers"])
    attached = attach(base, adapters, config)["layers"]
    for name in adapters["layers"]:
        own = attached[name]
        kernel, product = own["kernel"], own["lora_a"] @ own["lora_b"]
        merged = kernel.astype(product.dtype) + product.reshape(kernel.shape)
        layers[name] = {**layers[name], "kernel": merged.astype(kernel.dtype)}
    return {**base, "layers": layers}

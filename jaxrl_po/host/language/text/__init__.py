"""Text in and out: tokenizers and chat templates of Hugging Face folders, data sets of JSON lines.

from jaxrl_po.host.language.text import *

tokenizer = load_tokenizer("SmolLM2-135M-Instruct")
check_fits(tokenizer, model)
texts = read_completions("answers.jsonl", tokenizer, max_length=512)
rows, completion = pack(texts.tokens, 512, texts.completion)
sft_params, losses = jax.jit(make_sft(SFTConfig(), model, rows, completion))(key, params)

prompts = read_prompts("questions.jsonl", tokenizer, max_prompt_length=128)
end = {"eos_id": tokenizer.stop_ids[0], "stop_ids": tokenizer.stop_ids}
config = RLHFConfig(pad_id=tokenizer.pad_id, **end)
train = jax.jit(make_rlhf(config, reward_fn, prompts.tokens, model))
"""

from jaxrl_po.host.language.text.datasets import (
    Completions,
    Pairs,
    Prompts,
    read_completions,
    read_preferences,
    read_prompts,
)
from jaxrl_po.host.language.text.reward import TextReward, text_reward
from jaxrl_po.host.language.text.tokenizer import (
    Exchange,
    Tokenizer,
    check_fits,
    decode_responses,
    load_tokenizer,
)

__all__ = [
    "Completions",
    "Exchange",
    "Pairs",
    "Prompts",
    "TextReward",
    "Tokenizer",
    "check_fits",
    "decode_responses",
    "load_tokenizer",
    "read_completions",
    "read_preferences",
    "read_prompts",
    "text_reward",
]

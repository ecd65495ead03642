"""Memory on the way to the first update of SmolLM2-135M: loading, compiling, beginning.

    python experiments/rlhf_memory.py          # writes experiments/results/rlhf_memory.md

Peak resident memory of a process, less what it had once all was imported, as a multiple of the
weights in single precision. "all weights": the state is a policy with a critic on its torso, and
Adam's two moments; "adapters": of rank 16.
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import time
from typing import Any

RESULTS = pathlib.Path(__file__).with_name("results") / "rlhf_memory"
ROWS = {"adapters": 16, "all weights": 0}
STAGES = "compiler", "load", "compile", "begin", "update", "state"
PAGE = """\
# Memory of RLHF on SmolLM2-135M: `python experiments/rlhf_memory.py`

{measured}

Peak resident memory after each stage, less that of the imports, over {weights:.0f} MB of weights in
single precision. The compiler alone: what compiling takes where there are no weights, only their
shapes. "Updated": after the first iteration, of 8 answers of 20 tokens
to prompts of 12.

| what learns | the compiler alone | loaded | compiled | begun | updated | of that the state |
|---|---|---|---|---|---|---|
{rows}
"""


def peak() -> float:
    """Bytes of resident memory, at most so far."""
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def stages(rank: int, without_weights: bool) -> dict[str, float]:
    """Peak bytes after each stage, less those before the first."""
    import jax
    import numpy as np
    from tasks import smollm

    from jaxrl_po import PPOConfig, load_pretrained
    from jaxrl_po.host.language.json_files import read_object
    from jaxrl_po.rlhf import LoRAConfig, RLHFConfig, make_rlhf_step, make_transformer
    from jaxrl_po.rlhf.models.families import transformer_config

    update = PPOConfig(
        num_envs=8, num_steps=20, total_timesteps=1600, num_minibatches=4, shared_torso=True
    )
    config = RLHFConfig(update=update, lora=LoRAConfig(rank=rank), eos_id=2, pad_id=-1)
    prompts = np.random.default_rng(0).integers(3, 1000, (16, 12))
    folder, key = smollm.fetch(), jax.random.key(0)
    jax.block_until_ready(jax.jit(jax.random.split)(key))  # what any program takes
    found, base = {}, peak()

    def note(stage: str) -> None:
        found[stage] = peak() - base

    if without_weights:
        model = make_transformer(transformer_config(read_object(folder / "config.json")))
        params: Any = jax.eval_shape(model.init, key)
    else:
        loaded = load_pretrained(folder)
        model, params = loaded.model, jax.block_until_ready(loaded.params)
        note("load")
    init, step = make_rlhf_step(
        config, lambda prompt, response: response.mask.sum(axis=1), prompts, model
    )
    state: Any = jax.eval_shape(init, key, params)
    found["weights"], found["state"] = size(params), size((state.params, state.algorithm))
    compiled = jax.jit(step, donate_argnums=0).lower(state, params).compile()
    if without_weights:
        note("compiler")
        return found
    note("compile")
    state = jax.block_until_ready(jax.jit(init)(key, params))
    note("begin")
    jax.block_until_ready(compiled(state, params))
    note("update")
    return found


def size(tree: Any) -> float:
    """Bytes of all arrays of a tree, or of their shapes."""
    import jax

    return float(sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)))


def main() -> None:
    """Each row in two processes of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rank", type=int, help="one row, printed as JSON")
    parser.add_argument("--without-weights", action="store_true")
    arguments = parser.parse_args()
    if arguments.rank is not None:
        print(json.dumps(stages(arguments.rank, arguments.without_weights)))
        return
    from scores import machine

    rows: list[str] = []
    found: dict[str, Any] = {}
    for name, rank in ROWS.items():
        numbers: dict[str, Any] = {}
        for more in ([], ["--without-weights"]):
            command = [sys.executable, __file__, "--rank", str(rank), *more]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            numbers |= json.loads(done.stdout.splitlines()[-1])
        found[name] = numbers
        times = [numbers[stage] / numbers["weights"] for stage in STAGES]
        rows.append(f"| {name} | " + " | ".join(f"{x:.2f}" for x in times) + " |")
        print(rows[-1], flush=True)
    found["measured"] = f"{time.strftime('%Y-%m-%d')}: {machine()}"
    RESULTS.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    page = PAGE.format(
        measured=found["measured"], weights=numbers["weights"] / 1e6, rows="\n".join(rows)
    )
    RESULTS.with_suffix(".md").write_text(page)


if __name__ == "__main__":
    main()

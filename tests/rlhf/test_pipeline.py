"""Fine-tuning, reward model and PPO in a row, as the package's docstring shows them."""

import contextlib
import textwrap

import jax
import numpy as np

from jaxrl_po import rlhf

COMPILED = "/jax/core/compile/backend_compile_duration"


@contextlib.contextmanager
def compilations():
    """The names of what is compiled meanwhile."""
    found = []

    def listen(event, duration, **notes):
        if event == COMPILED:
            found.append(notes["fun_name"])

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_the_docstrings_example_runs_and_learns_with_one_executable_a_stage():
    _, marker, example = rlhf.__doc__.partition("    import jax\n")
    namespace = {}
    with np.errstate(all="raise"), compilations() as compiled:
        exec(textwrap.dedent(marker + example), namespace)
    scores = namespace["result"].metrics["objective/scores"]
    assert scores[-5:].mean() > scores[0] + 1.0
    stages = "fine_tune", "learn_reward", "train"
    assert [compiled.count(f"jit({stage})") for stage in stages] == [1, 1, 1], compiled
    model, policy, prompts = (namespace[name] for name in ("model", "policy", "ids"))
    before, after = (sevens(model, params, prompts) for params in (namespace["sft_params"], policy))
    assert after > 2 * before


def sevens(model, params, ids):
    prompt = rlhf.as_prompts(ids[:, :4], pad_id=-1)
    options = {"num_steps": 8, "temperature": 1.0, "eos_id": 0, "pad_id": -1}
    drawn = rlhf.generate(model, params, prompt, jax.random.key(1), **options).response
    return (drawn.ids == 7).sum(axis=1).mean()

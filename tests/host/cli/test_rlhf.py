"""From a folder and JSON lines to a fine-tuned model, a reward model and an aligned one."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxrl_po import load_pretrained
from jaxrl_po.algorithms import ALGORITHMS
from jaxrl_po.host.cli import main as cli
from jaxrl_po.host.cli import rlhf
from jaxrl_po.host.language.reward_folder import HEAD, load_reward_model
from tests.host.language.text.conftest import SENTENCES, TEMPLATE, train_backend

WIDTH, HEADS, FEEDFORWARD, LAYERS = 8, 2, 16, 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny random Llama with a tokenizer."""
    path = tmp_path_factory.mktemp("model")
    backend = train_backend()
    V = backend.get_vocab_size()
    rng = np.random.default_rng(0)
    shapes = {"model.embed_tokens": (V, WIDTH), "model.norm": (WIDTH,)}
    layer = {f"self_attn.{name}_proj": (WIDTH, WIDTH) for name in "qkvo"}
    layer |= {f"mlp.{name}_proj": (FEEDFORWARD, WIDTH) for name in ("gate", "up")}
    layer |= {"mlp.down_proj": (WIDTH, FEEDFORWARD)}
    layer |= {f"{name}_layernorm": (WIDTH,) for name in ("input", "post_attention")}
    shapes |= {f"model.layers.0.{name}": shape for name, shape in layer.items()}
    weights = {
        f"{name}.weight": rng.normal(0, 0.3, shape).astype(np.float32) + (len(shape) == 1)
        for name, shape in shapes.items()
    }
    save_file(weights, path / "model.safetensors")
    config = {
        "model_type": "llama",
        "vocab_size": V,
        "hidden_size": WIDTH,
        "intermediate_size": FEEDFORWARD,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": 64,
        "tie_word_embeddings": True,
    }
    settings = {"eos_token": "<end>", "pad_token": "<fill>", "chat_template": TEMPLATE}
    (path / "config.json").write_text(json.dumps(config))
    (path / "tokenizer.json").write_text(backend.to_str())
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return path


def write(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def run(*arguments):
    cli.main(["rlhf", *map(str, arguments)])


def error_of(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        run(*arguments)
    assert end.value.code == 2
    return capsys.readouterr().err


def test_fine_tuning(folder, tmp_path, capsys):
    rows = [{"prompt": text[:9], "completion": text[9:]} for text in SENTENCES] * 8
    data = write(tmp_path / "data.jsonl", [*rows, {"prompt": "a " * 80, "completion": "b"}])
    options = ["--max-length", "48", "--batch-size", "4", "--num-epochs", "4"]
    for name, more in (("all", []), ("lora", ["--lora-rank", "2"]), ("packed", ["--packed"])):
        run("sft", folder, data, tmp_path / name, *options, "--learning-rate", "1e-2", *more)
        shown = capsys.readouterr().out
        assert "1 line of more than 48 tokens left out" in shown
        first, last = (float(x) for x in shown.split("loss ")[1].split(" to "))
        assert last < first - 0.1
        found = load_pretrained(tmp_path / name)
        assert found.config == load_pretrained(folder).config
    whole, adapted = (load_file(tmp_path / n / "model.safetensors") for n in ("all", "lora"))
    embedding = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    np.testing.assert_array_equal(adapted["model.embed_tokens.weight"], embedding)
    assert np.abs(whole["model.embed_tokens.weight"] - embedding).max() > 0


def length_of_answer(prompts, answers):
    """More letters are better."""
    return [float(len(answer)) for answer in answers]


def test_a_learned_reward_and_a_run_on_it(folder, tmp_path, capsys):
    pairs = [{"prompt": s[:9], "chosen": s[9:], "rejected": s[9:12]} for s in SENTENCES] * 8
    data = write(tmp_path / "pairs.jsonl", pairs)
    options = ["--batch-size", "4", "--learning-rate", "1e-2", "--num-epochs", "4"]
    run("reward", folder, data, tmp_path / "reward", *options)
    _, reward_model = load_reward_model(tmp_path / "reward")
    assert float(reward_model.std) > 0
    prompts = write(tmp_path / "prompts.jsonl", [{"prompt": s[:9]} for s in SENTENCES])
    size = ["--num-envs", "8", "--num-steps", "4", "--visit-every", "1", "--learning-rate", "1e-2"]
    arguments = ["ppo", folder, prompts, tmp_path / "run", "--reward", tmp_path / "reward", *size]
    run(*arguments, "--iterations", "2", "--test-data", prompts, "--lora-rank", "2")
    assert "win-rate" in capsys.readouterr().out
    metrics = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["iteration"] for row in metrics] == [1, 2]
    sample = json.loads((tmp_path / "run" / "samples.jsonl").read_text().splitlines()[0])
    assert sample["prompt"] in {s[:9] for s in SENTENCES}
    assert load_pretrained(tmp_path / "run" / "last").config == load_pretrained(folder).config

    begun = ["ppo", folder, prompts, tmp_path / "begun", "--reward", tmp_path / "reward", *size]
    run(*begun, "--iterations", "1", "--critic-from-reward")
    described = json.loads((tmp_path / "begun" / "rlhf.json").read_text())
    assert "critic_from" in described
    update = described["config"]["update"]
    assert (update["shared_torso"], update["max_grad_norm"], update["gamma"]) == (False, 1.0, 1.0)

    function = ["--reward-function", f"{__name__}:length_of_answer"]
    arguments = ["ppo", folder, prompts, tmp_path / "grpo", *function, *size, "--iterations", "1"]
    run(*arguments, "--estimator", "grpo", "--answers-per-prompt", "4")
    rows = (tmp_path / "grpo" / "samples.jsonl").read_text().splitlines()
    assert len({json.loads(row)["prompt"] for row in rows}) == 1  # four answers to one prompt
    run(*arguments, "--estimator", "grpo", "--answers-per-prompt", "4", "--resume")
    assert "at iteration 1 of 1" in capsys.readouterr().out


def test_every_method_aligns_with_fields_of_its_own(folder, tmp_path, capsys):
    prompts = write(tmp_path / "prompts.jsonl", [{"prompt": s[:9]} for s in SENTENCES])
    function = ["--reward-function", f"{__name__}:length_of_answer"]
    size = ["--num-envs", "8", "--num-steps", "4", "--iterations", "1", "--estimator", "rloo"]

    def align(method, name, *flags):
        options = *function, *size, "--answers-per-prompt", "4"
        run(method, folder, prompts, tmp_path / name, *options, *flags)
        (row,) = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        return json.loads(row)["policy/kl"]

    narrow, wide = (align("trpo", f"δ{kl}", "--max-kl", kl) for kl in ("1e-4", "1e-2"))
    assert 0 < narrow <= 1e-4 < wide <= 1e-2
    update = json.loads((tmp_path / "δ1e-4" / "rlhf.json").read_text())["config"]["update"]
    assert (update["algorithm"], update["max_kl"]) == ("trpo", 1e-4)
    with pytest.raises(SystemExit):
        run("ppo", "--help")
    told = " ".join(capsys.readouterr().out.split())
    assert "a value head (default: True)" in told  # as it is, but without a critic
    assert "inf for none (> 0; default: 1.0)" in told
    told = error_of(capsys, "trpo", folder, prompts, tmp_path / "no", "--clip-eps", "0.1")
    assert "there is no flag --clip-eps" in told
    told = error_of(capsys, "ppo", folder, prompts, tmp_path / "no", "--env-id", "CartPole-v1")
    assert "there is no flag --env-id" in told
    told = error_of(
        capsys, "ppo", folder, prompts, tmp_path / "no", *function, "--critic-from-reward"
    )
    assert "--critic-from-reward needs --reward FOLDER" in told
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("method", ALGORITHMS)
def test_every_method_has_help(method, capsys):
    with pytest.raises(SystemExit) as end:
        run(method, "--help")
    assert end.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "price of a nat of the KL to the reference" in told
    assert "N, answers generated side by side" in told
    assert "minibatches of a pass; they divide num_envs (" in told
    assert ("--shared-torso" in told) == method.startswith("ppo")  # the others' critics are apart


def test_a_field_of_the_update_and_one_of_the_run_have_the_same_name(folder, tmp_path):
    prompts = write(tmp_path / "prompts.jsonl", [{"prompt": s[:9]} for s in SENTENCES])
    function = ["--reward-function", f"{__name__}:length_of_answer"]
    size = ["--num-envs", "8", "--num-steps", "4", "--iterations", "1"]
    prices = ["--kl-coef", "0.25", "--update-kl-coef", "0.5"]
    run("ppo_penalty", folder, prompts, tmp_path / "run", *function, *size, *prices)
    config = json.loads((tmp_path / "run" / "rlhf.json").read_text())["config"]
    assert (config["update"]["algorithm"], config["kl_coef"]) == ("ppo_penalty", 0.25)
    assert config["update"]["kl_coef"] == 0.5
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1


def test_a_budget_is_iterations(folder, tmp_path, capsys, monkeypatch):
    prompts = write(tmp_path / "prompts.jsonl", [{"prompt": "the heron"}])
    function = ["--reward-function", f"{__name__}:length_of_answer"]
    large = ["--num-envs", "8400", "--num-steps", "60", "--iterations", "2"]
    found = []
    with monkeypatch.context() as patch:
        patch.setattr(rlhf, "run_rlhf", lambda config, *_, **__: found.append(config.update))
        run("ppo", folder, prompts, tmp_path / "large", *function, *large)
    assert [(x.num_envs, x.num_steps, x.num_iterations) for x in found] == [(8400, 60, 2)]

    arguments = ["trpo", folder, prompts, tmp_path / "run", *function]
    size = ["--num-envs", "8", "--num-steps", "4"]
    run(*arguments, *size, "--iterations", "1")
    told = error_of(capsys, *arguments, *size, "--iterations", "2", "--resume")
    assert "total_timesteps (--iterations * num_envs * num_steps): a run goes on with" in told


def test_what_does_not_fit_is_one_line(folder, tmp_path, capsys):
    data = write(tmp_path / "data.jsonl", [{"prompt": "the heron"}])
    told = error_of(capsys, "ppo", folder, data, tmp_path / "run")
    assert "give one of --reward FOLDER and --reward-function" in told
    named = ["--reward-function", "nowhere:f"]
    assert "No module named 'nowhere'" in error_of(
        capsys, "ppo", folder, data, tmp_path / "run", *named
    )
    assert "data.jsonl, line 1" in error_of(capsys, "sft", folder, data, tmp_path / "out")
    told = error_of(capsys, "ppo", folder, data, tmp_path / "run", "--reward", folder)
    assert f"there is no {HEAD} in it" in told
    assert "there is no config.json" in error_of(capsys, "sft", tmp_path, data, tmp_path / "out")
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "out").exists()

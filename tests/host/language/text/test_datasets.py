"""Lines of JSON become the tokens they should; what is wrong is named with its file and line."""

import json

import jax
import numpy as np
import pytest
import tokenizers
from tokenizers import pre_tokenizers

from jaxrl_po.algorithms import PPOConfig
from jaxrl_po.host.language.text import (
    load_tokenizer,
    read_completions,
    read_preferences,
    read_prompts,
)
from jaxrl_po.rlhf import (
    RLHFConfig,
    SFTConfig,
    TransformerConfig,
    make_reward_model,
    make_rlhf,
    make_sft,
    make_transformer,
    pack,
    perplexity,
)
from jaxrl_po.rlhf.types import predicted
from tests.host.language.text.conftest import TEMPLATE


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


@pytest.fixture
def file(tmp_path):
    """Writes records, or lines as they are, and names the file."""

    def write(*records):
        lines = [r if isinstance(r, str) else json.dumps(r) for r in records]
        path = tmp_path / "data.jsonl"
        path.write_text("\n".join(lines))
        return path

    return write


def rows(tokenizer, tokens):
    """Each row as text, special tokens and all."""
    pairs = zip(np.asarray(tokens.ids), np.asarray(tokens.mask), strict=True)
    return [tokenizer.decode(ids[mask], skip_special=False) for ids, mask in pairs]


def test_prompts_are_text_or_messages_padded_on_the_left(tokenizer, file):
    asked = [user("one heron?"), assistant("two herons"), user("which bird waits?")]
    path = file({"prompt": "which bird?", "source": 3}, {"prompt": asked}, "", {"prompt": "the"})
    found = read_prompts(path, tokenizer, 100)
    assert rows(tokenizer, found.tokens) == [
        "which bird?",
        "[user] one heron?<end>\n[assistant] two herons<end>\n"
        "[user] which bird waits?<end>\n[assistant] ",
        "the",
    ]
    mask = np.asarray(found.tokens.mask)
    assert (np.diff(mask.astype(int), axis=1) >= 0).all()
    assert mask.all(axis=1).tolist() == [False, True, False]
    assert (np.asarray(found.tokens.ids)[~mask] == tokenizer.pad_id).all()
    assert found.lines.tolist() == [1, 2, 4]
    assert found.num_dropped == 0


def test_prompts_that_are_too_long_are_dropped_and_counted(tokenizer, file):
    texts = ["the heron", "the heron waits by the weir", "weir", "x y z x y z x y z"]
    sizes = [len(tokenizer.encode(text)) for text in texts]
    path = file(*({"prompt": text} for text in texts))
    for most in range(min(sizes), max(sizes) + 1):
        found = read_prompts(path, tokenizer, most)
        kept = [n for n, size in enumerate(sizes) if size <= most]
        assert rows(tokenizer, found.tokens) == [texts[n] for n in kept]
        assert found.lines.tolist() == [n + 1 for n in kept]
        assert found.num_dropped == 4 - len(kept)
        assert found.tokens.ids.shape[1] == max(sizes[n] for n in kept)
    with pytest.raises(ValueError, match=r"data.jsonl: all 4 lines have more than max_prompt_len"):
        read_prompts(path, tokenizer, min(sizes) - 1)


COMPLETIONS = {
    "text": (
        {"prompt": "which bird?", "completion": " the heron"},
        "which bird?",
        " the heron<end>",
    ),
    "ended": ({"prompt": "which?", "completion": " this<over>"}, "which?", " this<over>"),
    "answer": (
        {"prompt": [user("which?")], "completion": "the heron"},
        "[user] which?<end>\n[assistant] ",
        "the heron<end>",
    ),
    "message": (
        {"prompt": [user("which?")], "completion": [assistant("the heron")]},
        "[user] which?<end>\n[assistant] ",
        "the heron<end>",
    ),
    "messages": (
        {"messages": [user("a"), assistant("b"), user("c"), assistant("d")], "prompt": 3},
        "[user] a<end>\n[assistant] b<end>\n[user] c<end>\n[assistant] ",
        "d<end>",
    ),
}


@pytest.mark.parametrize("case", COMPLETIONS)
def test_the_completion_is_the_answer_with_its_end(case, tokenizer, file):
    record, prompt, answer = COMPLETIONS[case]
    other = {"prompt": "count the herons:", "completion": " one heron, two herons, one weir"}
    found = read_completions(file(record, other), tokenizer, 100)
    whole = rows(tokenizer, found.tokens)
    answers = rows(tokenizer, found.tokens._replace(mask=found.completion))
    assert whole == [prompt + answer, "".join(other.values()) + "<end>"]
    assert answers == [answer, other["completion"] + "<end>"]
    mask = np.asarray(found.tokens.mask)
    assert (np.diff(mask.astype(int), axis=1) <= 0).all()
    assert not np.asarray(found.completion)[~mask].any()
    assert (np.asarray(found.tokens.ids)[~mask] == tokenizer.pad_id).all()


def test_every_answer_of_a_conversation_can_be_learned(tokenizer, file):
    system, greeting = {"role": "system", "content": "be brief"}, assistant("good day")
    long = [system, user("a heron?"), assistant("b"), user("c"), assistant("one weir")]
    path = file(
        {"messages": long}, {"messages": [greeting, *long[1:3]]}, {"prompt": "a", "completion": "b"}
    )
    found = {
        all_turns: read_completions(path, tokenizer, 100, all_turns=all_turns)
        for all_turns in (False, True)
    }
    shown = {
        all_turns: rows(tokenizer, texts.tokens._replace(mask=texts.completion))
        for all_turns, texts in found.items()
    }
    assert shown == {
        False: ["one weir<end>", "b<end>", "b<end>"],
        # In what is already written the space before an answer is a part of its first token.
        True: [" b<end>one weir<end>", "b<end>", "b<end>"],
    }
    np.testing.assert_array_equal(found[True].tokens.ids, found[False].tokens.ids)


def learned(tokenizer, path):
    """What is learned of each conversation, all turns."""
    found = read_completions(path, tokenizer, 100, all_turns=True)
    return rows(tokenizer, found.tokens._replace(mask=found.completion))


CONTENT = "message.content"


def test_an_earlier_answer_is_learned_as_the_whole_conversation_has_it(write, file):
    """Qwen3's template writes an empty thought, in the last answer alone."""
    thought = "('<think></think>' if loop.last and message.role == 'assistant' else '')"
    template = TEMPLATE.replace(CONTENT, f"{thought} + {CONTENT}")
    own = load_tokenizer(write(settings={"chat_template": template}))
    path = file({"messages": [user("a"), assistant("b"), user("c"), assistant("d")]})
    assert learned(own, path) == [" b<end><think></think>d<end>"]


LAST_USER = "(messages | selectattr('role', 'equalto', 'user') | list | last)"
REWRITTEN = {
    "what comes before": (
        TEMPLATE.replace(CONTENT, f"({CONTENT} | upper if message == {LAST_USER} else {CONTENT})"),
        "writes what comes before an earlier answer otherwise once others follow",
    ),
    "the end": (
        TEMPLATE.replace(
            "eos_token", "(eos_token if loop.last and message.role == 'assistant' else '')"
        ),
        "ends an earlier answer with none of the tokens that end one",
    ),
}


@pytest.mark.parametrize("case", REWRITTEN)
def test_a_template_that_rewrites_a_conversation_leaves_the_last_answer(case, write, file):
    template, told = REWRITTEN[case]
    own = load_tokenizer(write(settings={"chat_template": template}))
    path = file({"messages": [user("a"), assistant("b"), user("c"), assistant("d")]})
    assert read_completions(path, own, 100).completion.any()
    with pytest.raises(ValueError, match=rf"line 1: .*{told}: only the last answer can be learned"):
        read_completions(path, own, 100, all_turns=True)


@pytest.mark.parametrize(
    ("answer", "told"),
    [("", "is empty"), ("b<end>e", "goes on after a token that ends it: 'b<end>e'")],
)
def test_an_earlier_answer_is_checked_as_the_last_one_is(answer, told, tokenizer, file):
    path = file({"messages": [user("a"), assistant(answer), user("c"), assistant("d")]})
    assert read_completions(path, tokenizer, 100).completion.any()
    with pytest.raises(ValueError, match=rf'line 1: "messages"\[1\] {told}'):
        read_completions(path, tokenizer, 100, all_turns=True)


def test_no_token_of_what_comes_before_an_answer_is_learned(backend, write, file):
    """Two ends of lines are one token, but before a text two, as GPT-2's tokenizer has it."""
    merged = json.loads(backend.to_str())
    merged["model"]["vocab"]["ĊĊ"] = max(merged["model"]["vocab"].values()) + 1
    merged["model"]["merges"].append(["Ċ", "Ċ"])
    template = TEMPLATE.replace("'] '", "']\\n\\n'").replace("[assistant] ", "[assistant]\\n\\n")
    own = load_tokenizer(write(tokenizer=json.dumps(merged), settings={"chat_template": template}))
    assert len(own.encode("\n\n")) < len(own.encode("\n\nb")) - 1
    path = file({"messages": [user("a"), assistant("b"), user("c"), assistant("d")]})
    assert learned(own, path) == ["b<end>d<end>"]


def test_a_prompt_has_the_ids_that_generation_sees(beginning, file):
    """With its BOS; and where the last letters would merge with the answer's first, they do not."""
    record = {"prompt": "two her", "completion": "ons"}
    joined = beginning.encode("two herons", begin=True)
    before = beginning.encode("two her", begin=True)
    assert before[0] == beginning.bos_id
    assert joined[: len(before)] != before
    found = read_completions(file(record), beginning, 100)
    expected = [*before, *beginning.encode("ons"), 1]
    assert found.tokens.ids[0].tolist() == expected
    assert np.flatnonzero(found.completion[0])[0] == len(before)
    assert read_prompts(file(record), beginning, 100).tokens.ids[0].tolist() == before


def test_a_space_that_a_tokenizer_puts_before_every_text_is_not_put_into_the_answer(
    backend, write, file
):
    own = tokenizers.Tokenizer.from_str(backend.to_str())
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    spaced = load_tokenizer(write(tokenizer=own.to_str()))
    found = read_completions(file({"prompt": "one heron,", "completion": "two"}), spaced, 100)
    assert rows(spaced, found.tokens) == [" one heron,two<end>"]


def test_pairs_point_to_the_rows_of_their_answers(tokenizer, file):
    path = file(
        {"prompt": "which?", "chosen": " heron", "rejected": " weir", "score": 1},
        {"prompt": "x" * 99, "chosen": " a", "rejected": " b"},
        {"prompt": "the", "chosen": " b" * 9, "rejected": " d"},
        {"prompt": [user("who?")], "chosen": [assistant("I")], "rejected": "you"},
    )
    found = read_preferences(path, tokenizer, 30)
    texts = rows(tokenizer, found.tokens)
    assert [texts[i] for i in found.chosen] == [
        "which? heron<end>",
        "the" + " b" * 9 + "<end>",
        "[user] who?<end>\n[assistant] I<end>",
    ]
    assert [texts[i] for i in found.rejected] == [
        "which? weir<end>",
        "the d<end>",
        "[user] who?<end>\n[assistant] you<end>",
    ]
    assert found.lines.tolist() == [1, 3, 4]
    assert found.num_dropped == 1
    one_too_long = len(tokenizer.encode("the" + " b" * 9))
    assert 2 not in read_preferences(path, tokenizer, one_too_long).lines
    assert 3 not in read_preferences(path, tokenizer, one_too_long).lines


GOOD = {
    read_prompts: {"prompt": "which?"},
    read_completions: {"prompt": "which?", "completion": " this"},
    read_preferences: {"prompt": "which?", "chosen": " a", "rejected": " b"},
}
CHAT = [user("which?")]


@pytest.mark.parametrize(
    ("read", "line", "message"),
    [
        (read_prompts, '{"prompt": "a"', "not JSON: Expecting"),
        (read_prompts, "[" * 100000, "not JSON: it is nested too deeply"),
        (read_prompts, "[1, 2]", "must hold an object, not list"),
        (read_prompts, {"text": "a", "id": 1}, '"prompt" is missing; there are: id, text'),
        (read_prompts, {"prompt": 3}, '"prompt" must be a string or a list of messages, not 3'),
        (read_prompts, {"prompt": []}, r'"prompt" must be a string or a list .*, not \[\]'),
        (read_prompts, {"prompt": ""}, '"prompt" holds no token'),
        (read_prompts, {"prompt": ["a"]}, r'"prompt"\[0\] must be {"role": string, .*, not \'a\''),
        (read_prompts, {"prompt": [*CHAT, {"role": "user"}]}, r'"prompt"\[1\] must be'),
        (
            read_prompts,
            {"prompt": [*CHAT, assistant("a")]},
            '"prompt" ends with a message of the a',
        ),
        (read_prompts, {"prompt": [{"role": "judge", "content": "a"}]}, "a judge has no turn"),
        (read_prompts, '{"prompt": "\\ud800"}', "surrogates not allowed"),
        (read_completions, {"prompt": "a"}, '"completion" is missing; there are: prompt'),
        (read_completions, {"prompt": "a", "completion": ""}, '"completion" is empty'),
        (read_completions, {"prompt": "a", "completion": "<end>"}, '"completion" is empty'),
        (read_completions, {"prompt": CHAT, "completion": ""}, '"completion" is empty'),
        (read_completions, {"prompt": "a", "completion": None}, '"completion" must be a string as'),
        (read_completions, {"prompt": CHAT, "completion": 1}, '"completion" must be a string or'),
        (read_completions, {"prompt": CHAT, "completion": CHAT}, '"completion" must be a single'),
        (read_completions, {"prompt": "a", "completion": "b<end>c"}, '"completion" goes on after'),
        (read_completions, {"messages": "a"}, "\"messages\" must be a list of messages, not 'a'"),
        (read_completions, {"messages": CHAT}, '"messages" must hold a prompt and an answer'),
        (read_completions, {"messages": [*CHAT, *CHAT]}, '"messages" must end with a message of'),
        (
            read_completions,
            {"messages": [*CHAT, assistant("a"), *CHAT]},
            '"messages" must end with a message of the assistant',
        ),
        (read_preferences, {"prompt": "a", "chosen": "b"}, '"rejected" is missing'),
        (
            read_preferences,
            {"prompt": "a", "rejected": "b", "chosen": {}},
            '"chosen" must be a str',
        ),
        (read_preferences, {"prompt": "a", "rejected": "", "chosen": "b"}, '"rejected" is empty'),
    ],
)
def test_what_is_wrong_in_a_line_is_named_with_its_number(read, line, message, tokenizer, file):
    path = file(GOOD[read], "", line, GOOD[read])
    with pytest.raises(ValueError, match=rf"data.jsonl, line 3: .*{message}"):
        read(path, tokenizer, 100)


def test_long_values_are_cut_in_errors(tokenizer, file):
    with pytest.raises(ValueError, match=r"line 1: .*\.\.\.$") as caught:
        read_prompts(file({"prompt": [["a" * 5000]]}), tokenizer, 100)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("read", GOOD)
def test_files_that_hold_nothing_and_lengths_that_are_none_are_refused(read, tokenizer, file):
    path = file("", " ")
    with pytest.raises(ValueError, match=r"data.jsonl: there are no lines in it"):
        read(path, tokenizer, 100)
    with pytest.raises(ValueError, match=r"other.jsonl: cannot be read: No such file"):
        read(path.with_name("other.jsonl"), tokenizer, 100)
    with pytest.raises(ValueError, match="length=0 is out of range"):
        read(path, tokenizer, 0)


def test_a_template_that_changes_its_mind_is_refused(write, file):
    tokenizer = load_tokenizer(write(jinja="{{ messages | length }}: {{ messages[-1].content }}"))
    with pytest.raises(ValueError, match=r"line 1: the chat template writes '2: b' .*: '1: a'"):
        read_completions(file({"messages": [user("a"), assistant("b")]}), tokenizer, 100)


def test_from_files_to_a_policy(tokenizer, file, jit):
    """Fine-tuning on packed answers, a reward model of pairs, and a run on prompts."""
    model = make_transformer(
        TransformerConfig(vocab_size=300, context_length=64, num_features=16, num_layers=1)
    )
    key, tune = jax.random.key(0), SFTConfig(batch_size=2, num_epochs=60, learning_rate=1e-2)
    params = jit(model.init)(key)

    answers = [{"messages": [user(f"{n} herons?"), assistant("the heron waits")]} for n in range(6)]
    texts = read_completions(file(*answers), tokenizer, 40)
    packed, counted = pack(texts.tokens, 64, texts.completion)
    assert packed.ids.shape[0] < 6
    params, losses = jit(make_sft(tune, model, packed, counted))(key, params)
    assert losses[-1] < 0.5 * losses[0]
    told = perplexity(model, params, texts.tokens, completion=texts.completion)
    asked = perplexity(model, params, texts.tokens, completion=~texts.completion)
    assert told < 0.3 * asked
    assert predicted(texts.tokens, texts.completion).sum() == texts.completion.sum()

    rated = [{"prompt": "the", "chosen": f" heron {n}", "rejected": f" weir {n}"} for n in range(4)]
    pairs = read_preferences(file(*rated), tokenizer, 40)
    learn = make_reward_model(tune, model, pairs.tokens, pairs.chosen, pairs.rejected)
    _, losses = jit(learn)(key, params)
    assert losses[-1] < losses[0]

    prompts = read_prompts(
        file(*({"prompt": [user(f"{n} herons?")]} for n in range(3))), tokenizer, 40
    )
    config = RLHFConfig(
        update=PPOConfig(num_envs=4, num_steps=8, total_timesteps=32, gamma=1.0),
        eos_id=tokenizer.stop_ids[0],
        stop_ids=tokenizer.stop_ids,
        pad_id=tokenizer.pad_id,
    )
    length = jit(make_rlhf(config, lambda _, response: response.mask.sum(1), prompts.tokens, model))
    assert length(key, params).metrics["tokens/response_len_mean"] > 1

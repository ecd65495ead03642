"""A folder's tokenizer is read as its files say, and what they cannot mean is refused by name."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers

from jaxrl_po.host.language.text import Exchange, check_fits, decode_responses, load_tokenizer
from jaxrl_po.rlhf import Generation, Tokens, TransformerConfig, make_transformer

TEXT = "the heron waits, naïvely: \n twice"


def test_text_becomes_the_backends_ids_and_comes_back(tokenizer, backend):
    ids = tokenizer.encode(TEXT)
    assert ids == backend.encode(TEXT).ids
    assert len(ids) < len(TEXT.encode())
    assert tokenizer.decode(ids) == TEXT
    assert tokenizer.vocab_size == backend.get_vocab_size() == 300


def test_special_tokens_are_single_ids_and_need_not_be_shown(tokenizer):
    ids = tokenizer.encode("one<end>")
    assert ids[-1] == 1
    assert tokenizer.decode(np.array(ids)) == "one"
    assert tokenizer.decode(ids, skip_special=False) == "one<end>"


def test_a_tokenizer_does_not_cut_or_pad_whatever_its_file_says(write, backend):
    own = tokenizers.Tokenizer.from_str(backend.to_str())
    own.enable_truncation(2)
    own.enable_padding(length=50)
    assert len(own.encode(TEXT).ids) == 50
    assert load_tokenizer(write(tokenizer=own.to_str())).encode(TEXT) == backend.encode(TEXT).ids


@pytest.mark.parametrize(
    ("files", "stop_ids"),
    [
        ({}, (1,)),
        ({"generation": {"eos_token_id": 2}}, (1, 2)),
        ({"generation": {"eos_token_id": [2, 1]}}, (1, 2)),
        ({"generation": {"eos_token_id": None}}, (1,)),
        ({"settings": {"eos_token": {"content": "<over>"}}}, (2,)),
        ({"settings": {"eos_token": None}, "special": {"eos_token": "<over>"}}, (2,)),
        ({"settings": {"eos_token": None}, "generation": {"eos_token_id": [2, 0]}}, (2, 0)),
    ],
)
def test_what_ends_an_answer_is_what_the_files_name(files, stop_ids, write):
    assert load_tokenizer(write(**files)).stop_ids == stop_ids


@pytest.mark.parametrize(
    ("files", "pad_id"),
    [
        ({}, 3),
        ({"settings": {"pad_token": None}}, -1),
        ({"settings": {"pad_token": "<end>"}}, -1),  # the end would be taken for padding
        ({"settings": {"pad_token": None}, "generation": {"pad_token_id": 3}}, 3),
        ({"generation": {"eos_token_id": [1, 3]}}, -1),
    ],
)
def test_padding_is_a_token_that_ends_nothing(files, pad_id, write):
    assert load_tokenizer(write(**files)).pad_id == pad_id


def test_a_text_begins_with_bos_where_the_tokenizer_puts_one(tokenizer, beginning, write, backend):
    plain = backend.encode("one heron").ids
    assert tokenizer.bos_id is None
    assert tokenizer.encode("one heron", begin=True) == plain
    assert beginning.bos_id == 0
    assert beginning.encode("one heron") == plain
    assert beginning.encode("one heron", begin=True) == [0, *plain]
    assert beginning.encode("<begin>one heron", begin=True) == [0, *plain]
    for says, expected in ((True, [0, *plain]), (False, plain)):
        settings = {"bos_token": "<begin>", "add_bos_token": says}
        assert load_tokenizer(write(settings=settings)).encode("one heron", begin=True) == expected


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer": None}, r"tokenizer.json: no such file"),
        ({"tokenizer": "{}"}, r"tokenizer.json: Model missing"),
        ({"tokenizer_config": "{,"}, r"tokenizer_config.json: not JSON: .*line 1"),
        ({"generation": "[1]"}, r"generation_config.json: must hold an object, not list"),
        ({"settings": {"eos_token": None}}, "no file names an eos_token"),
        ({"settings": {"eos_token": "<fin>"}}, "eos_token='<fin>' is not in tokenizer.json"),
        ({"generation": {"eos_token_id": [1, 300]}}, r"eos_token_id=\[1, 300\] must be an id"),
        ({"generation": {"eos_token_id": "<end>"}}, "eos_token_id='<end>' must be an id"),
        ({"settings": {"chat_template": 3}}, "chat_template must be a string or a list of"),
        ({"settings": {"chat_template": []}}, "chat_template must be a string or a list of"),
        ({"settings": {"chat_template": [{"name": "a"}]}}, "chat_template must be a string or"),
        ({"jinja": "a\n{% if %}"}, "chat template 'default', line 2: Expected an expression"),
    ],
)
def test_a_folder_that_makes_no_tokenizer_is_refused_by_name(files, message, write):
    with pytest.raises(ValueError, match=message):
        load_tokenizer(write(**files))


@pytest.mark.parametrize("module", ["tokenizers", "jinja2"])
def test_a_missing_package_is_named_with_its_extra(module, write, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    message = rf"needs {module}, which is not installed: pip install 'jaxrl-po\[text\]'$"
    with pytest.raises(ValueError, match=message):
        load_tokenizer(write())


def test_half_a_character_is_refused(tokenizer):
    with pytest.raises(ValueError, match="surrogates not allowed"):
        tokenizer.encode("a \ud800")


def test_a_model_must_know_all_ids_and_may_know_more(tokenizer):
    def model(size):
        return make_transformer(TransformerConfig(vocab_size=size, num_features=8))

    check_fits(tokenizer, model(300))
    check_fits(tokenizer, model(320))
    with pytest.raises(ValueError, match=r"tokenizer.vocab_size=300 .* vocabulary has 299"):
        check_fits(tokenizer, model(299))


def test_a_generation_is_read_as_prompts_and_answers(tokenizer):
    asked, said = tokenizer.encode("which bird?"), [*tokenizer.encode("the heron"), 1]
    prompt = np.full((2, len(asked) + 1), 7)
    prompt[0, 1:], prompt[1] = asked, [2, *asked]
    response = np.full((2, len(said) + 2), 7)
    response[0, : len(said)], response[1, :1] = said, 2
    generation = Generation(
        Tokens(jnp.asarray(prompt), jnp.asarray(np.arange(prompt.shape[1])[None] >= [[1], [0]])),
        Tokens(
            jnp.asarray(response),
            jnp.asarray(np.arange(response.shape[1])[None] < [[len(said)], [1]]),
        ),
        jnp.zeros(response.shape),
    )
    expected = [Exchange("which bird?", "the heron"), Exchange("which bird?", "")]
    assert decode_responses(tokenizer, generation) == expected
    whole = [Exchange("which bird?", "the heron<end>"), Exchange("<over>which bird?", "<over>")]
    assert decode_responses(tokenizer, generation, skip_special=False) == whole

"""A tokenizer trained on a few sentences, in a folder as the field lays it out."""

import json

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from jaxrl_po.host.language.text import load_tokenizer

SENTENCES = [
    "the heron waits by the weir and the weir does not wait",
    "which bird waits? the heron waits",
    "count the herons: one heron, two herons",
]
SPECIAL = ["<begin>", "<end>", "<over>", "<fill>"]
TEMPLATE = """\
{%- for message in messages %}
    {%- if message.role == 'judge' %}
        {{- raise_exception('a judge has no turn') }}
    {%- endif %}
    {{- '[' + message.role + '] ' + message.content + eos_token + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '[assistant] ' }}
{%- endif %}
"""


def train_backend():
    """Byte-level BPE."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(SENTENCES, trainer)
    return backend


@pytest.fixture(scope="session")
def backend():
    return train_backend()


@pytest.fixture
def write(tmp_path, backend):
    """Writes a folder; each file's content may be changed, None leaves it out."""

    def folder(**changes):
        settings = {"eos_token": "<end>", "pad_token": "<fill>", "chat_template": TEMPLATE}
        files = {
            "tokenizer.json": backend.to_str(),
            "tokenizer_config.json": settings | changes.pop("settings", {}),
            "special_tokens_map.json": changes.pop("special", None),
            "generation_config.json": changes.pop("generation", None),
            "chat_template.jinja": changes.pop("jinja", None),
        } | {f"{name}.json": content for name, content in changes.items()}
        for name, content in files.items():
            if content is not None:
                text = content if isinstance(content, str) else json.dumps(content)
                (tmp_path / name).write_text(text)
        return tmp_path

    return folder


@pytest.fixture
def tokenizer(write):
    """Ends with <end> or <over>, begins with nothing."""
    return load_tokenizer(write(generation={"eos_token_id": [1, 2]}))


@pytest.fixture
def beginning(backend, write):
    """The same, but a text begins with <begin>, and its own post-processor says so."""
    own = tokenizers.Tokenizer.from_str(backend.to_str())
    own.post_processor = processors.TemplateProcessing(
        single="<begin> $A <end>", special_tokens=[("<begin>", 0), ("<end>", 1)]
    )
    return load_tokenizer(write(tokenizer=own.to_str(), settings={"bos_token": "<begin>"}))

"""Chat templates are rendered as those who write them expect, and refuse by name."""

import datetime

import pytest

from jaxrl_po.host.language.text import load_tokenizer
from jaxrl_po.host.language.text.chat import make_chat_template

ASKED = [{"role": "user", "content": "which bird?"}]
BOTH = [*ASKED, {"role": "assistant", "content": "the heron"}]


def render(source, messages=ASKED, **options):
    special = {"bos_token": "<begin>", "eos_token": "<end>"}
    return make_chat_template(source, "a template", special)(messages, **options)


def test_messages_are_written_up_to_the_answer_or_with_it(tokenizer):
    template = tokenizer.apply_chat_template
    assert template(ASKED) == "[user] which bird?<end>\n[assistant] "
    assert template(ASKED, add_generation_prompt=False) == "[user] which bird?<end>\n"
    assert template(BOTH, False) == "[user] which bird?<end>\n[assistant] the heron<end>\n"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ bos_token }}|{{ eos_token }}|{{ pad_token }}", "<begin>|<end>|"),
        ("  {% if true %}\na\n  {% endif %}\nb", "a\nb"),  # trim_blocks, lstrip_blocks
        ("{{ {'a': '<é>'} | tojson }}", '{"a": "<é>"}'),
        ("{{ {'a': 1} | tojson(indent=1) }}", '{\n "a": 1\n}'),
        ("{{ 'é' | tojson(ensure_ascii=true) }}", '"\\u00e9"'),
        ("{% for m in [1, 2, 3] %}{% if m == 2 %}{% break %}{% endif %}{{ m }}{% endfor %}", "1"),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}!", "which bird?!"),
        ("{% if tools is none and documents is none %}plain{% endif %}", "plain"),
        ("{{ messages[0]['role'].upper() }}", "USER"),
    ],
)
def test_templates_have_what_they_are_written_for(source, expected):
    assert render(source) == expected


def test_a_template_knows_the_day():
    days = {datetime.date.today() - datetime.timedelta(days=n) for n in (0, 1)}
    assert render("{{ strftime_now('%Y-%m-%d') }}") in {day.isoformat() for day in days}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ raise_exception('roles must alternate') }}", "^a template: roles must alternate$"),
        ("{{ messages[0].content + 1 }}", "^a template: can only concatenate str"),
        ("{{ messages[3].content.strip() }}", "^a template: .* has no element 3"),
        ("{{ messages.append(1) }}", "^a template: access to attribute .append. .* is unsafe"),
        ("{{ ''.__class__.__mro__ }}", "^a template: access to attribute '__class__'.*unsafe"),
    ],
)
def test_what_a_template_refuses_is_an_error_with_its_name(source, message):
    with pytest.raises(ValueError, match=message):
        render(source)


NAMED = [{"name": "default", "template": "plain"}, {"name": "tools", "template": "with tools"}]


def test_a_template_may_be_chosen_by_name(write):
    folder = write(settings={"chat_template": NAMED})
    assert load_tokenizer(folder).apply_chat_template(ASKED) == "plain"
    assert load_tokenizer(folder, template="tools").apply_chat_template(ASKED) == "with tools"
    with pytest.raises(ValueError, match=r"template='rag' is none of .*: default, tools$"):
        load_tokenizer(folder, template="rag")


def test_a_file_of_its_own_goes_before_the_settings(write):
    assert load_tokenizer(write(jinja="own")).apply_chat_template(ASKED) == "own"


def test_where_there_is_no_template_messages_are_refused(write):
    folder = write(settings={"chat_template": None})
    with pytest.raises(ValueError, match="has no chat template, so messages have no form as text"):
        load_tokenizer(folder).apply_chat_template(ASKED)
    with pytest.raises(ValueError, match=r"template='rag' is none of .*: none$"):
        load_tokenizer(folder, template="rag")

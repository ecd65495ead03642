"""The pages of the site say what is there: names, fields, metrics, figures, commands."""

import dataclasses
import importlib
import inspect
import re

import jax
import pytest
import yaml

from docs.hooks import (
    DIRECTIVE,
    LINK,
    RESULTS,
    ROOT,
    definition,
    expanded,
    fields_of,
    fields_tables,
    linked_sources,
    repository_path,
    with_site_links,
)
from experiments.quoted import stale
from jaxrl_po import PPOConfig, TRPOConfig, make_step
from jaxrl_po.algorithms import ALGORITHMS
from jaxrl_po.rlhf import RLHFConfig, TransformerConfig, make_rlhf_step, make_transformer

DOCS = ROOT / "docs"
PAGES = {page.relative_to(DOCS).as_posix(): page.read_text() for page in DOCS.rglob("*.md")}
EACH_PAGE = pytest.mark.parametrize("name", sorted(PAGES))
PUBLIC = ["", ".config", ".envs", ".networks", ".ops", ".rlhf"]
CITES = re.compile(rf"\]\((?:\.\./)+{RESULTS}/(\w+)\.md\)")


@EACH_PAGE
def test_every_link_leads_to_a_file(name):
    links = [link for link, _ in LINK.findall(PAGES[name])]
    assert [link for link in links if not ((DOCS / name).parent / link).exists()] == []


@EACH_PAGE
def test_every_quotation_is_found(name):
    for match in DIRECTIVE.finditer(PAGES[name]):
        assert expanded(match)
    assert len(re.findall(r"^\{\{", PAGES[name], re.MULTILINE)) == len(
        DIRECTIVE.findall(PAGES[name])
    )


def paragraphs():
    """Those that cite tables of experiments/results, and the tables' texts."""
    for name, text in sorted(PAGES.items()):
        for paragraph in re.split(r"\n\n|\n- ", re.sub(r"\n(\|.*\n)+", "\n\n", text)):
            if cited := CITES.findall(paragraph):
                source = "".join((ROOT / RESULTS / f"{table}.md").read_text() for table in cited)
                yield pytest.param(paragraph, source, id=f"{name}: {paragraph[:30]}")


@pytest.mark.parametrize(("paragraph", "source"), list(paragraphs()))
def test_a_paragraph_that_cites_results_quotes_them(paragraph, source):
    assert stale(re.sub(r"arXiv:\S+", "", paragraph), source) == []


@pytest.mark.parametrize("method", ALGORITHMS)
def test_every_metric_of_a_method_is_told(method):
    cls = ALGORITHMS[method][0]
    config = cls(num_envs=2, num_steps=8, total_timesteps=16, hidden_sizes=(4,))
    init, step = make_step(config)
    _, metrics = jax.eval_shape(lambda key: step(init(key)), jax.random.key(0))
    told = PAGES[f"methods/{method}.md"] + PAGES["methods/metrics.md"]
    assert [name for name in metrics if f"`{name}`" not in told] == []
    assert [name for name in metrics if f"`{name}`" not in PAGES["methods/typical.md"]] == []


def test_every_metric_of_rlhf_is_told():
    model = TransformerConfig(vocab_size=8, context_length=8)
    update = PPOConfig(num_envs=4, num_steps=4, total_timesteps=16, clip_value=True)
    config = RLHFConfig(model=model, update=update, pad_id=-1)
    init, step = make_rlhf_step(config, lambda prompt, response: prompt.ids[:, 0], [[1], [2]])
    reference = make_transformer(model).init(jax.random.key(0))
    _, metrics = jax.eval_shape(
        lambda key: step(init(key, reference), reference), jax.random.key(0)
    )
    assert "val/clipfrac_avg" in metrics
    assert [name for name in metrics if f"`{name}`" not in PAGES["methods/rlhf.md"]] == []


@pytest.mark.parametrize("method", ALGORITHMS)
def test_a_methods_page_tells_every_field(method):
    cls = ALGORITHMS[method][0]
    assert f"{{{{ fields jaxrl_po.{cls.__name__} }}}}" in PAGES[f"methods/{method}.md"]
    rows = list(fields_of(cls))
    assert {row.name for row in rows} == {field.name for field in dataclasses.fields(cls)}
    assert all(row.meaning for row in rows)


def test_a_field_is_told_as_its_own_class_has_it():
    rows = {row.name: row for row in fields_of(TRPOConfig)}
    assert rows["learning_rate"].meaning == "step size of the critic's Adam"
    assert rows["max_kl"].kind == "float (data)"
    assert rows["fisher_fraction"].kind == "float"
    own, common = fields_tables("jaxrl_po.TRPOConfig").split("???")
    assert "| `max_kl` | float (data) | `0.01` | > 0 | δ, radius" in own
    assert "`num_envs`" in common
    assert "`num_envs`" not in own


def test_a_definition_is_the_whole_of_it():
    text = definition("docs/hooks.py", "FieldRow")
    assert text.startswith("class FieldRow(")
    assert text.endswith("meaning: str")
    with pytest.raises(ValueError, match="defines 'gone' 0 times"):
        definition("docs/hooks.py", "gone")


def test_links_lead_to_pages_of_the_site():
    assert repository_path("results/scores.md") == "experiments/results/scores.md"
    assert repository_path("results/index.md") == "docs/results/index.md"
    page = "[a](../../experiments/results/scores.md) [b](../../jaxrl_po/types.py) [c](../../tests)"
    assert with_site_links(page, "guide/x.md") == (
        "[a](../results/scores.md) [b](../source/jaxrl_po/types.py.md) c"
    )
    assert "jaxrl_po/host/tuned.py" in linked_sources()


def named(module):
    """What the API's pages say of a module: names with a directive, and names in a text."""
    pages = "".join(text for name, text in PAGES.items() if name.startswith("api/"))
    directives = re.findall(rf"^::: {re.escape(module)}\.(\w+)$", pages, re.MULTILINE)
    return directives, re.findall(r"`(?:jaxrl_po\.)?(\w+)`", pages)


@pytest.mark.parametrize("room", PUBLIC)
def test_every_public_name_has_a_docstring_and_is_on_a_page(room):
    module = importlib.import_module(f"jaxrl_po{room}")
    directives, mentioned = named(module.__name__)
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), f"{name} has no docstring"
            assert name in directives, f"::: {module.__name__}.{name} is on no page"
        else:
            assert name in mentioned, f"{name} is on no page"


def test_what_the_api_lists_is_there():
    pages = "".join(text for name, text in PAGES.items() if name.startswith("api/"))
    listed = re.findall(r"^::: ([\w.]+)\.(\w+)$", pages, re.MULTILINE)
    assert len(listed) == len(set(listed)) > 90
    for module, name in listed:
        assert inspect.getdoc(getattr(importlib.import_module(module), name)), f"{module}.{name}"


def test_every_table_of_results_is_listed_with_a_command_that_is_there():
    page = PAGES["results/index.md"]
    parts = {"four_criteria_discussion", "gpu_discussion"}  # of other tables
    tables = {path.stem for path in (ROOT / RESULTS).glob("*.md")} - parts
    assert {table for table in tables if f"{RESULTS}/{table}.md" in page} == tables
    commands = re.findall(r"`(?:python|bash) (experiments/\w+\.\w+)`", page)
    assert len(commands) > len(tables)
    assert [command for command in commands if not (ROOT / command).exists()] == []


def test_manifests_of_the_pages_are_yaml_that_names_its_kinds():
    page = (ROOT / "docs" / "guide" / "sweeps.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    parts = list(yaml.safe_load_all(block))
    assert [part["kind"] for part in parts] == ["Service", "Deployment", "Deployment"]
    for part in parts[1:]:
        wanted = part["spec"]["selector"]["matchLabels"]
        assert part["spec"]["template"]["metadata"]["labels"] == wanted
    assert parts[0]["spec"]["selector"] == parts[1]["spec"]["selector"]["matchLabels"]


class Loader(yaml.SafeLoader):
    """Of mkdocs.yml, whose tags name functions of other packages."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)


def test_every_page_is_in_the_navigation():
    settings = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)
    found = set(re.findall(r"[\w/]+\.md", str(settings["nav"])))
    left_out = set(re.findall(r"[\w/]+\.md", settings["exclude_docs"]))
    assert found - {name for name in found if name.startswith("results/")} == {
        name for name in PAGES if name not in left_out and not name.startswith("results/")
    }

"""The folder of a model is there, and can be written to, before the model is trained."""

import pytest

from jaxrl_po.host.language.checkpoints import make_model_folder


def test_a_folder_is_made_and_left_empty(tmp_path):
    assert list(make_model_folder(tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_what_can_be_no_folder_is_named(name, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=f"cannot write to .*{name}: "):
        make_model_folder(tmp_path / name)

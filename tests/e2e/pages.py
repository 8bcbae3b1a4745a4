"""The runnable examples of the pages under `docs/`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from gateway import KEY, Gateway

_TWICE = """
import contextlib, io, sys
exec(sys.argv[1], {"__name__": "__main__"})
with contextlib.redirect_stdout(io.StringIO()):
    exec(sys.argv[1], {"__name__": "__main__"})
"""
_DOCS = Path(__file__).parents[2] / "docs"


def run_example(gateway: Gateway, page: str) -> str:
    """Run the Python blocks of a page as one program, as copied from it, and return what it printed.

    It is run twice, as readers do; what the second run prints does not matter.
    """
    code = "\n".join(re.findall(r"```python\n(.*?)```", (_DOCS / page).read_text(), re.DOTALL))
    assert code
    environ = {
        **os.environ,
        "MANIAC_BASE_URL": gateway.url,
        "MANIAC_API_KEY": KEY,
        "MANIAC_MODEL": "mock/m1",
    }
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _TWICE, code],
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout

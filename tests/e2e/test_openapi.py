"""Requests made up from the published document: no server error, no undocumented status, no wrong shape."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from gateway import KEY, Gateway

# `MANIAC_SCHEMATHESIS_EXAMPLES=200` looks longer.
EXAMPLES = os.environ.get("MANIAC_SCHEMATHESIS_EXAMPLES", "8")
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance,ignored_auth"
)
# A documented capability that this deployment lacks is a 501 by contract.
CONFIG = '[checks]\nnot_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 501]\n'


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("upstream")
def test_generated_requests_get_documented_answers(gateway: Gateway, tmp_path: Path) -> None:
    """Valid and invalid requests to every endpoint are answered as the document says."""
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    command = [
        str(Path(sys.executable).parent / "schemathesis"),
        f"--config-file={config}",
        "run",
        f"{gateway.url}/openapi.json",
        f"--header=Authorization: Bearer {KEY}",
        f"--checks={CHECKS}",
        "--mode=all",
        "--phases=examples,coverage,fuzzing",
        f"--max-examples={EXAMPLES}",
        "--seed=1",
        "--request-timeout=60",
        "--suppress-health-check=all",
        "--continue-on-failure",
        "--no-color",
    ]
    ran = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, timeout=580, check=False
    )

    assert ran.returncode == 0, ran.stdout[-20_000:]

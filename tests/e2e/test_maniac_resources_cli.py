"""The official `maniac` command line, unmodified, on traces, evaluators and datasets."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from gateway import KEY, Gateway

# The official client's own models shadow an attribute of their base class.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SOURCE = "def run_evaluation(item):\n    return {'score': 1}\n"


class Command:
    """The command line, in this process."""

    def __init__(self, gateway: Gateway) -> None:
        self._options = [f"--api-key={KEY}", f"--base-url={gateway.url}"]

    def __call__(self, *arguments: str, table: bool = False) -> Any:
        """Run it, and return the JSON that it printed, or its table."""
        from click.testing import CliRunner
        from maniac._cli import cli

        options = () if table else ("--json",)
        held: dict[str, Any] = {}
        result = CliRunner().invoke(cli, [*self._options, *arguments, *options], obj=held)
        # As a process it would end here, and its connections with it.
        held["client"].close()
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output if table else json.loads(result.output)


@pytest.fixture
def maniac(gateway: Gateway) -> Command:
    return Command(gateway)


@pytest.fixture
def label(gateway: Gateway) -> str:
    """The label of a container with one completion, of the trace of that name."""
    name = f"box-{uuid.uuid4().hex[:8]}"
    with gateway.client() as http:
        body = {"label": name, "initial_model": "mock/m1"}
        http.post("/v1/containers", json=body).raise_for_status()
        chat = {
            "model": f"maniac:{name}",
            "messages": [{"role": "user", "content": "Hi"}],
            "trace": {"id": name, "span_id": "s"},
        }
        http.post("/v1/chat/completions", json=chat).raise_for_status()
    return name


@pytest.mark.usefixtures("upstream")
def test_traces(maniac: Command, label: str) -> None:
    """List and retrieve, as JSON and as a table."""
    assert maniac("traces", "list", "--limit=1")["data"][0]["id"] == label
    assert maniac("traces", "retrieve", label)["spans"][0]["span_id"] == "s"
    assert "Showing 1 of " in maniac("traces", "list", "--limit=1", table=True)


@pytest.mark.usefixtures("upstream")
def test_evaluators(maniac: Command, label: str) -> None:
    """Create, retrieve, list, update and delete, as JSON and as a table."""
    made = maniac(
        *("evaluators", "create", "--type=code", f"--name={label}", f"--container={label}"),
        *(f"--source={SOURCE}", '--requirements=["numpy"]', '--metadata={"a": 1}'),
    )
    assert made["requirements"] == ["numpy"]
    assert maniac("evaluators", "retrieve", label) == made
    assert maniac("evaluators", "list", f"--container={label}")["data"] == [made]
    assert maniac("evaluators", "update", label, "--pass-threshold=0.5")["pass_threshold"] == 0.5
    assert label in maniac("evaluators", "list", table=True)
    assert maniac("evaluators", "delete", label)["deleted"] is True


@pytest.mark.usefixtures("upstream")
def test_datasets(maniac: Command, label: str) -> None:
    """Create, retrieve and list, as JSON and as a table."""
    filters = json.dumps([{"key": "trace.id", "operator": "equals", "value": label}])
    made = maniac(
        *("datasets", "create", f"--container={label}", f"--name={label}", "--size=5"),
        *(f"--filters={filters}", '--tags=["t"]', '--metadata={"a": 1}'),
    )
    assert maniac("datasets", "retrieve", made["id"])["size"] == 1
    assert maniac("datasets", "list", f"--container={label}")["total"] == 1
    assert label in maniac("datasets", "list", table=True)

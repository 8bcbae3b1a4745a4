"""`maniac-gateway keys` and `migrate`, on a database of their own."""

from __future__ import annotations

import re
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture
def keys(run: Run) -> Run:
    """`keys` on a migrated database."""
    assert run("migrate").returncode == 0
    return lambda *arguments: run("keys", *arguments)


def test_create_prints_the_secret_alone_on_standard_output(keys: Run) -> None:
    """A script can take a 256-bit key from standard output."""
    created = keys("create", "--name", "laptop")
    assert created.returncode == 0
    assert re.fullmatch(r"mk-[A-Za-z0-9_-]{43}\n", created.stdout)
    assert "laptop" in created.stderr


def test_list_shows_tenancy_and_state_without_the_secret(keys: Run) -> None:
    """Project and organization are made with the key, and its secret is never shown again."""
    secret = keys(
        *("create", "--name", "ci", "--project", "web", "--organization", "acme"),
        *("--create-project", "--expires", "30d"),
    ).stdout.strip()
    listed = keys("list").stdout
    assert re.search(r"ci +web +acme .+ active$", listed, re.MULTILINE)
    assert "never" not in listed
    assert secret not in listed
    assert keys("list", "--project", "other").stdout.count("\n") == 1


def test_a_slip_in_a_project_makes_none(keys: Run) -> None:
    """Unless it is asked for, a project that is not there is refused, with the nearest that is."""
    assert keys("create", "--project", "website", "--create-project").returncode == 0
    refused = keys("create", "--project", "webiste")
    assert refused.returncode == 1
    assert (
        "organization 'default' has no project 'webiste'; did you mean `website`? "
        "--create-project makes it"
    ) in refused.stderr
    assert keys("create", "--project", "website").returncode == 0
    assert keys("create", "--project", "website", "--organization", "acme").returncode == 1
    assert keys("list").stdout.count(" website ") == 2


@pytest.mark.parametrize("column", [0, 1])
def test_revoked_key_is_listed_as_such(keys: Run, column: int) -> None:
    """A key is revoked by the id or the prefix that the list shows."""
    keys("create", "--name", "old")
    row = keys("list").stdout.splitlines()[1].split()
    key_id = row[0]
    revoked = keys("revoke", row[column])
    assert (revoked.returncode, f"revoked {key_id}" in revoked.stdout) == (0, True)
    assert re.search(r"old .+ revoked \d{4}-", keys("list").stdout)


def test_unknown_key_cannot_be_revoked(keys: Run) -> None:
    """The id that was given is named."""
    refused = keys("revoke", "no-such-key")
    assert refused.returncode == 1
    assert "no-such-key" in refused.stderr


@pytest.mark.parametrize("when", ["soon", "2001-01-01", "0d"])
def test_expiry_must_be_a_time_to_come(keys: Run, when: str) -> None:
    """Nonsense and the past are refused by name, and no key is made."""
    refused = keys("create", "--expires", when)
    assert refused.returncode == 1
    assert f"--expires {when}" in refused.stderr
    assert keys("list").stdout.count("\n") == 1


def test_without_a_schema_the_remedy_is_named(run: Run) -> None:
    """Nothing is made by listing."""
    missing = run("keys", "list")
    assert missing.returncode == 1
    assert "gateway.db" in missing.stderr


def test_migrate_names_what_it_applied_and_then_nothing(run: Run) -> None:
    """The second run finds the schema current."""
    assert "applied 0001_initial" in run("migrate").stdout
    assert run("migrate").stdout == "the schema is current\n"


def test_limits_and_budget_come_with_the_key(run: Run, keys: Run) -> None:
    """They are told when it is made, and listed."""
    made = keys("create", "--rate", "600", "--tokens", "9000", "--budget-usd", "5", "--per", "day")
    assert "requests per window: 600; tokens per window: 9000; USD per day: 5.00" in made.stderr
    assert re.search(
        r"never +inference,read,write +600 +9000 +active$", keys("list").stdout, re.MULTILINE
    )
    budgets = run("budgets", "list").stdout
    assert re.search(r"default +key \S+ \(key\) +day +5\.00 +0\.00 +0\.00 +5\.00 +\d{4}-", budgets)
    assert keys("create", "--rate", "0").returncode == 2

"""A change of some fields leaves the others as they are by then, not as they were when it was thought of."""

from __future__ import annotations

import msgspec
import pytest
from maniac_core.domain.containers import Container
from maniac_core.domain.evaluators import Evaluator, Judge
from maniac_core.storage.base import Database
from maniac_core.storage.stores.containers import ContainerStore
from maniac_core.storage.stores.evaluators import EvaluatorStore
from maniac_core.storage.stores.keys import KeyStore

replace = msgspec.structs.replace


@pytest.fixture
async def project(keys: KeyStore) -> int:
    await keys.create(name="n", secret_hash=b"h", prefix="mk-1", project="web", organization="acme")
    row = await keys.resolve(b"h")
    assert row is not None
    return row.caller.project


async def test_a_container(database: Database, project: int) -> None:
    """Each field of a container can be changed by itself, also to nothing."""
    store = ContainerStore(database)
    changes: dict[str, object] = {
        "default_model": "a/b",
        "default_system_prompt": "Be.",
        "default_parameters": {"seed": 1},
        "default_few_shot_messages": [{"role": "user", "content": "Hi"}],
        "system_prompt_prefix": "First.",
        "optimized_system_prompt": "Better.",
        "optimized_parameters": {"seed": 2},
        "optimized_few_shot_messages": [{"role": "user", "content": "Ho"}],
    }
    made = Container(
        key=0, id="c", project_id="", organization_id="", label="l", initial_model="a/a", created=1
    )
    await store.add(project, made)
    for field, value in changes.items():
        await store.update(project, replace(made, **{field: value}), [field])
    full = await store.find_by_label(project, "l")
    for field in changes:
        await store.update(project, made, [field])
    empty = await store.find_by_label(project, "l")

    assert full is not None
    assert {field: getattr(full, field) for field in changes} == changes
    assert empty is not None
    assert {field: getattr(empty, field) for field in changes} == dict.fromkeys(changes)


async def test_an_evaluator(database: Database, project: int) -> None:
    """Its own fields, and those of its rule."""
    store = EvaluatorStore(database)
    rule = Judge(model="a/b", prompt="p")
    made = Evaluator(id="e", name="n", rule=rule, created=1)
    await store.add(project, made)
    await store.update(project, replace(made, name="m"), ["name"])
    await store.update(project, replace(made, description="d"), ["description"])
    await store.update(project, replace(made, pass_threshold=0.5), ["pass_threshold"])
    await store.update(project, replace(made, mode="pairwise", api="models"), ["mode", "api"])
    await store.update(project, replace(made, metadata=b'{"a":1}'), ["metadata"])
    await store.update(project, replace(made, rule=replace(rule, prompt="q")), ["prompt"])
    await store.update(project, replace(made, rule=replace(rule, model="a/c")), ["model"])
    found = await store.find(project, "m")

    assert found is not None
    assert replace(found, project_id="") == replace(
        made,
        name="m",
        description="d",
        pass_threshold=0.5,
        mode="pairwise",
        api="models",
        metadata=b'{"a":1}',
        rule=Judge(model="a/c", prompt="q"),
    )

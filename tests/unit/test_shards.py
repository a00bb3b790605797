"""A fleet divided: every identity in exactly one part, and few of them move."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credentials_provider.policy import shard_of
from unit.making import Project, Provider, sample_fields

NAMES = [f"agent-{number}" for number in range(2000)]


@given(st.text(max_size=40), st.integers(1, 500))
def test_every_name_has_one_part_that_case_does_not_change(name: str, count: int) -> None:
    part = shard_of(name, count)
    assert 0 <= part < count
    assert shard_of(name.lower(), count) == part


@pytest.mark.parametrize("count", [1, 2, 7, 16])
def test_parts_are_of_about_the_same_size(count: int) -> None:
    sizes = [0] * count
    for name in NAMES:
        sizes[shard_of(name, count)] += 1
    fair = len(NAMES) / count
    assert all(0.7 * fair < size < 1.3 * fair for size in sizes)


@pytest.mark.parametrize("count", [1, 4, 16])
def test_one_part_more_takes_its_share_and_moves_nothing_else(count: int) -> None:
    moved = [name for name in NAMES if shard_of(name, count) != shard_of(name, count + 1)]
    assert {shard_of(name, count + 1) for name in moved} == {count}
    assert len(moved) < 1.4 * len(NAMES) / (count + 1)


def test_the_division_is_the_same_on_every_machine_and_in_every_version() -> None:
    """These are kept: a fleet may be renewed by machines of two versions."""
    assert [shard_of(name, 8) for name in NAMES[:8]] == [3, 2, 0, 2, 3, 6, 2, 0]


def test_runs_of_all_parts_renew_every_identity_once(project: Project) -> None:
    names = NAMES[:30]
    project.content(json.dumps([sample_fields(name) for name in names]))
    provider = Provider()
    for index in range(4):
        report = project.run(provider, shard=(index, 4))
        assert {shard_of(each.identity_name, 4) for each in report.results} == {index}
    assert sorted(provider.asked) == sorted(names)

"""The identities file as it is read: form, defaults, fingerprints."""

from __future__ import annotations

import bisect
import json
import os
import shlex
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credentials_provider.errors import ConfigurationError
from credentials_provider.identities.problems import Model
from credentials_provider.identities.reading import make_entry, read_entries
from credentials_provider.identities.rules import is_placeholder
from credentials_provider.identities.validation import validate, validate_each
from credentials_provider.settings import CLOUDS, Flags, load_settings
from unit.making import CLIENT, GATEWAY, SECRET, TENANT, Project, sample_fields

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ENVIRONMENT = {
    "ENTRA_TENANT_ID": TENANT,
    "ENTRA_CLIENT_ID": CLIENT,
    "ENTRA_CLIENT_SECRET": SECRET,
}


def fingerprint(project: Project, process: dict[str, str] | None = None, /, **fields: Any) -> str:
    return make_entry(1, sample_fields(**fields), project.settings(process)).fingerprint


def test_entries_come_in_the_order_of_the_file(project: Project) -> None:
    """With their place, from 1, and nothing to warn of."""
    project.identities("b", "a", "c")
    file = read_entries(project.settings())
    assert [(entry.index, entry.name) for entry in file.entries] == [(1, "b"), (2, "a"), (3, "c")]
    assert (file.problems, file.warnings) == ([], [])
    assert file.obvious


@pytest.mark.parametrize(
    "around", ["\ufeff{}", "\n\t {}\r\n", "{}"], ids=["byte-order mark", "white space", "plain"]
)
def test_what_stands_around_the_array_does_not_matter(project: Project, around: str) -> None:
    """An editor's byte-order mark is fine."""
    project.content(around.format(json.dumps([sample_fields()])))
    assert [entry.name for entry in read_entries(project.settings()).entries] == ["ci"]


GOOD = json.dumps([sample_fields()])


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD.encode("utf-16"), "is not UTF-8 text"),
        (GOOD.encode().replace(b"ci", b"\xff"), "is not UTF-8 text"),
        (b"", "is not valid JSON"),
        (b"\0", "is not valid JSON"),
        (b"identity_name: ci", "is not valid JSON"),
        (GOOD.replace('"ci"', '"ci",,').encode(), r"is not valid JSON: .*line 1, column \d+"),
        ((GOOD + GOOD).encode(), "is not valid JSON"),
        (GOOD[1:-1].encode(), "holds an object"),
        (b'"text"', "holds no array"),
        (b"null", "holds no array"),
        (b"[" * 100_000 + b"]" * 100_000, "is not a list of identities"),
        (b'[{"scope":' + b'{"a":' * 100_000, "is not a list of identities"),
        (b"[" + b"9" * 100_000 + b"]", "is not a list of identities"),
    ],
    ids=range(13),
)
def test_a_file_of_another_form_is_refused(project: Project, content: bytes, message: str) -> None:
    """Another encoding, no JSON, no array, nested or numbered beyond sense: exit 2, one line."""
    project.content(content)
    with pytest.raises(ConfigurationError, match=message) as error:
        read_entries(project.settings())
    assert error.value.exit_code == 2
    assert SECRET not in "".join(traceback.format_exception(error.value))


def test_a_truncated_file_is_refused_wherever_it_ends(project: Project) -> None:
    """And never shows what it held; the hint says what may have happened."""
    hints = set()
    for length in range(len(GOOD)):
        project.content(GOOD[:length])
        with pytest.raises(ConfigurationError) as error:
            read_entries(project.settings())
        assert SECRET not in "".join(traceback.format_exception(error.value))
        hints.add(error.value.hint)
    assert "Was it cut off while it was written?" in hints


def test_what_stands_in_the_array_must_be_objects(project: Project) -> None:
    """Each that is none is told by its place."""
    project.identities("a", "b", "c")
    objects: list[object] = [*json.loads(project.identities_file.read_text()), 1, [SECRET], None]
    project.content(json.dumps([SECRET, *objects]))
    file = read_entries(project.settings())
    assert [problem.entry for problem in file.problems] == [1, 5, 6, 7]
    assert [entry.name for entry in file.entries] == ["", "a", "b", "c", "", "", ""]
    assert not file.obvious
    assert list(validate_each(file.entries).identities) == ["a", "b", "c"]
    assert SECRET not in str(file.problems)


def test_a_field_that_stands_twice_in_an_entry_is_a_problem(project: Project) -> None:
    """JSON would silently take the last one."""
    project.content(GOOD.replace('"client_secret"', '"scope": "x", "client_secret"'))
    (problem,) = read_entries(project.settings()).problems
    assert (problem.entry, problem.identity_name, problem.field) == (1, "ci", "scope")
    assert problem.message == "stands more than once"


@pytest.mark.parametrize(("first", "second"), [("ci", "ci"), ("ci", "CI"), ("Ci", "cI")])
def test_names_are_unique_without_regard_to_case(project: Project, first: str, second: str) -> None:
    """They name files, and some file systems know no case."""
    project.identities(first, "other", second)
    file = read_entries(project.settings())
    assert [(each.entry, each.identity_name, each.field) for each in file.problems] == [
        (1, first, "identity_name"),
        (3, second, "identity_name"),
    ]
    assert "entry 3" in file.problems[0].message
    assert "entry 1" in file.problems[1].message
    assert list(validate_each(file.entries).identities) == ["other"]


def test_an_empty_array_is_a_warning(project: Project) -> None:
    """Not an error: a project may not have begun."""
    project.identities()
    file = read_entries(project.settings())
    assert (file.entries, file.problems) == ([], [])
    assert "names no identity" in file.warnings[0]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602])
def test_a_file_open_to_others_is_a_warning_with_its_cure(project: Project, mode: int) -> None:
    """It holds secrets."""
    project.identities("ci")
    project.identities_file.chmod(mode)
    (warning,) = read_entries(project.settings()).warnings
    assert f"chmod 600 {project.identities_file}" in warning


def test_the_environment_fills_in_tenant_and_scope_and_nothing_else(project: Project) -> None:
    """What the entry says itself stands."""
    given_fields = sample_fields(tenant_id=..., client_id=..., scope=..., client_secret=...)
    entry = make_entry(1, given_fields, project.settings(ENVIRONMENT))
    assert entry.fields == {
        "identity_name": "ci",
        "tenant_id": TENANT,
        "scope": f"api://{CLIENT}/.default",
    }
    entry = make_entry(1, sample_fields(), project.settings({"ENTRA_TENANT_ID": "other.example"}))
    assert entry.fields == sample_fields()


def test_a_mistake_in_the_environment_is_not_said_of_a_file(project: Project) -> None:
    """There is none to look into."""
    process = {"ENTRA_TENANT_ID": TENANT, "ENTRA_CLIENT_ID": CLIENT, "ENTRA_CLIENT_SECRET": "***"}
    with pytest.raises(ConfigurationError, match=r"the environment \(ENTRA_TENANT_ID, ") as error:
        validate(read_entries(project.settings(process)))
    assert str(project.identities_file) not in error.value.message


def test_without_a_file_the_environment_defines_ingress(project: Project) -> None:
    """The registry's own default identity, which asks for a token of its own application."""
    file = read_entries(project.settings(ENVIRONMENT))
    (entry,) = file.entries
    assert entry.name == "ingress"
    assert file.obvious
    identities, _ = validate(file)
    identity = identities["ingress"]
    assert (identity.tenant_id, identity.client_id) == (TENANT, CLIENT)
    assert identity.scope == f"api://{CLIENT}/.default"
    assert identity.client_secret == SECRET


@pytest.mark.parametrize("missing", ENVIRONMENT)
def test_half_an_identity_in_the_environment_is_told_by_what_is_missing(
    project: Project, missing: str
) -> None:
    """By the variable's name."""
    process = {name: value for name, value in ENVIRONMENT.items() if name != missing}
    with pytest.raises(ConfigurationError, match="there is no identities file") as error:
        read_entries(project.settings(process))
    assert error.value.hint == f"Set {missing} as well, or create the file."


def test_without_a_file_and_an_environment_the_hint_says_what_to_write(project: Project) -> None:
    """Its fields, by name."""
    with pytest.raises(ConfigurationError, match="there is no identities file") as error:
        read_entries(project.settings())
    assert "identity_name, tenant_id, client_id, client_secret and scope" in str(error.value.hint)


def test_a_file_that_was_named_must_be_there_whatever_the_environment_says(
    project: Project, tmp_path: Path
) -> None:
    """A misspelt path must not mint for somebody else."""
    settings = project.settings(ENVIRONMENT, identities_file=str(tmp_path / "mine.json"))
    with pytest.raises(ConfigurationError, match="there is no identities file"):
        read_entries(settings)


def test_where_the_files_of_version_1_lie_is_the_hint_for_a_default_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a path that was typed, nothing of the working directory counts."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("")
    home = {"CREDENTIALS_PROVIDER_HOME": str(tmp_path / "home")}
    for flags, words in (
        (Flags(), "is not read"),
        (Flags(identities_file=str(tmp_path / "mine.json")), "identities init"),
    ):
        with pytest.raises(ConfigurationError, match="there is no identities file") as error:
            read_entries(load_settings(flags, home, ""))
        assert words in str(error.value.hint)


def test_a_folder_in_place_of_the_file_is_told(project: Project, tmp_path: Path) -> None:
    """And so is a file in place of its folder."""
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_entries(project.settings(identities_file=str(tmp_path)))
    project.identities()
    inside = project.identities_file / "identities.json"
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_entries(project.settings(identities_file=str(inside)))


@pytest.mark.parametrize(
    "changes",
    [
        {"identity_name": "other"},
        {"tenant_id": "contoso.onmicrosoft.com"},
        {"client_id": "other"},
        {"scope": "api://other/.default"},
        {"login_base_url": "https://login.example"},
        {"cloud": "usgov"},
    ],
    ids=str,
)
def test_a_fingerprint_changes_with_every_part_of_the_definition(
    project: Project, changes: dict[str, str]
) -> None:
    """A token of the old one is not what is asked for."""
    assert fingerprint(project, **changes) != fingerprint(project)


def test_a_fingerprint_says_what_is_asked_and_not_how(project: Project) -> None:
    """Secret, order and the way a host is named change nothing."""
    base = {"ENTRA_LOGIN_BASE_URL": "https://login.microsoftonline.us"}
    assert fingerprint(project, client_secret="other") == fingerprint(project)
    assert fingerprint(project, cloud="public") == fingerprint(project)
    assert fingerprint(project, cloud="usgov") == fingerprint(project, base)
    assert fingerprint(project, login_base_url="https://h/") == fingerprint(
        project, login_base_url=" https://h"
    )
    assert fingerprint(project, {"ENTRA_TENANT_ID": TENANT}, tenant_id=...) == fingerprint(project)
    backwards = dict(reversed(sample_fields().items()))
    entry = make_entry(9, backwards, project.settings())
    assert entry.fingerprint == fingerprint(project)


def test_a_fingerprint_does_not_depend_on_the_process(project: Project) -> None:
    """Pinned: to change it makes every token on disk due; then raise its version, too."""
    assert fingerprint(project) == "1:cb21b938d7b48fd2bfc1a5674ca9ca9e"


VALUES = (
    st.none()
    | st.sampled_from(["public", "usgov", "", " ", "https://login.example", "https://h/x", SECRET])
    | st.sampled_from(["your-secret", f" {SECRET}", f"{SECRET}\n", "s\u00e9cret", "a\0b"])
    | st.integers()
    | st.lists(st.text(), max_size=1)
    | st.text(max_size=5)
)
FIELDS = st.dictionaries(
    st.sampled_from(["client_secret", "cloud", "login_base_url", "client_secert", "tenant_id"]),
    VALUES,
)


@given(changes=FIELDS)
def test_an_obvious_entry_is_valid(
    changes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A run with nothing due rests on it: it validates nothing that is obvious."""
    settings = Project(tmp_path_factory.mktemp("project")).settings()
    for valid in ({}, {"cloud": "usgov"}, {"login_base_url": "https://login.example"}):
        entry = make_entry(1, sample_fields(**{**valid, **changes}), settings)
        if entry.obvious:
            Model.model_validate(entry.fields)


@pytest.mark.parametrize(
    "changes",
    [{}, {"cloud": "usgov"}, {"login_base_url": CLOUDS["china"]}, {"cloud": None}],
    ids=str,
)
def test_an_ordinary_entry_is_obvious(project: Project, changes: dict[str, Any]) -> None:
    """Else every run would pay for its validation."""
    assert make_entry(1, sample_fields(**changes), project.settings()).obvious


@pytest.mark.parametrize(
    "entries",
    [
        [sample_fields("ci"), sample_fields("CI")],
        [sample_fields("entra-identities")],
        [sample_fields(login_base_url="https://login.example")],
        [sample_fields(sinks=[{"path": "x"}]), sample_fields("other", sinks=[{"path": "x"}])],
        [sample_fields(owner="me")],
        [sample_fields(tenant_id=...)],
        [sample_fields(client_secret_env="SECRET")],
        [sample_fields(scope="api://x")],
        ["ci"],
    ],
)
def test_an_entry_with_anything_to_say_of_it_is_not_obvious(
    project: Project, entries: list[object]
) -> None:
    """Be it a mistake of its place in the file, or a warning: a run has to look closer."""
    project.content(json.dumps(entries))
    file = read_entries(project.settings())
    assert not any(entry.obvious for entry in file.entries)


def test_a_field_that_stands_twice_is_not_obvious(project: Project) -> None:
    """JSON takes the last one, the author perhaps meant the first."""
    twice = json.dumps(sample_fields()).replace('"scope"', '"scope": "api://x/.default", "scope"')
    project.content(f"[{twice}]")
    assert not read_entries(project.settings()).obvious


@pytest.mark.parametrize(
    "nested",
    [lambda depth: "[" * depth + "]" * depth, lambda depth: '{"a":' * depth + "1" + "}" * depth],
    ids=["arrays", "objects"],
)
@pytest.mark.parametrize("field", ["identity_name", "scope", "client_secret", "cloud", "other"])
def test_nesting_of_any_depth_is_a_configuration_error(
    project: Project, field: str, nested: Callable[[int], str]
) -> None:
    """Also where it can just be read, but not be written or shown again."""
    deepest = bisect.bisect(range(1 << 17), 0, key=lambda depth: not _readable(nested(depth + 1)))
    for depth in (1, 10, 500, *range(deepest - 50, deepest + 5)):
        project.content(f'[{{"{field}": {nested(depth)}}}]')
        with pytest.raises(ConfigurationError):
            validate(read_entries(project.settings()))


def _readable(text: str) -> bool:
    try:
        json.loads(text)
    except RecursionError:
        return False
    return True


@pytest.mark.parametrize(
    "value",
    [
        # the guide's examples of an identities file, in their order
        *("your-tenant-id", "your-m2m-client-id", "your-m2m-client-secret"),
        *("api://your-app-client-id/.default", "cursor-m2m-client-id", "cursor-m2m-client-secret"),
        *("cicd-m2m-client-id", "cicd-m2m-client-secret", "api://{APP_CLIENT_ID}/.default"),
        # its curl example, the output of user-create-m2m and its .env
        *("{TENANT_ID}", "{M2M_CLIENT_ID}", "{M2M_CLIENT_SECRET}", "your-secret-value-here"),
        *("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "xxxxx~xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
        *("YOUR-TENANT-ID", "Your-Client-Secret"),
    ],
)
def test_a_sample_value_of_the_guide_is_a_placeholder(value: str) -> None:
    """Whoever forgot to put in the own one is told so before Entra ID is asked."""
    assert is_placeholder(value)


@pytest.mark.parametrize(
    "value",
    [
        *(TENANT, CLIENT, SECRET, f"api://{GATEWAY}/.default", "contoso.com", "your.example"),
        *("your-own", "a<b>c", "{x}", "xxxx", "not-your-client-secret"),
    ],
)
def test_a_real_value_is_no_placeholder(value: str) -> None:
    """Nobody is kept from working by a guess."""
    assert not is_placeholder(value)


def test_an_entry_shows_its_place_and_name_alone(project: Project) -> None:
    """Its fields hold the secret."""
    entry = make_entry(3, sample_fields(), project.settings())
    assert repr(entry) == "Entry(3, 'ci')"


@pytest.mark.parametrize(
    ("name", "shown"),
    [("a\x1b[2Jb", r"a\x1b[2Jb"), ("a\nb", r"a\nb"), ("\ud800", r"\ud800"), (["x"], ""), (1, "")],
)
def test_a_name_is_fit_to_be_shown_before_anybody_validated_it(
    project: Project, name: object, shown: str
) -> None:
    """No control character reaches a terminal, whatever stands in the file."""
    assert make_entry(1, sample_fields(identity_name=name), project.settings()).name == shown


@pytest.mark.skipif(os.name != "posix", reason="no such modes")
def test_the_command_that_closes_a_file_can_be_copied(tmp_path: Path) -> None:
    """Whatever the path holds."""
    folder = tmp_path / "it's a path"
    folder.mkdir()
    project = Project(folder)
    project.identities("ci")
    project.identities_file.chmod(0o644)
    (warning,) = read_entries(project.settings()).warnings
    command = shlex.split(warning.partition("run: ")[2])
    assert command == ["chmod", "600", str(project.identities_file)]

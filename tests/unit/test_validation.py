"""The rules of an identity: every mistake at once, with its place, and never the secret."""

from __future__ import annotations

import json
import re
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from credentials_provider.errors import ConfigurationError, Problem
from credentials_provider.identities.fields import FIELDS, keeps_the_rules
from credentials_provider.identities.problems import problems_of
from credentials_provider.identities.reading import make_entry, read_entries, select
from credentials_provider.identities.validation import validate, validate_each
from credentials_provider.settings import CLOUDS
from unit.making import CLIENT, GATEWAY, SECRET, TENANT, Project, sample_fields
from unit.test_fields import BAD, GOOD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from credentials_provider.identities.identity import Identity


def accept(project: Project, *entries: object) -> tuple[dict[str, Identity], list[str]]:
    project.identities(*entries)
    return validate(read_entries(project.settings()))


def refuse(project: Project, *entries: object) -> Sequence[Problem]:
    project.identities(*entries)
    file = read_entries(project.settings())
    with pytest.raises(ConfigurationError) as error:
        validate(file)
    assert error.value.exit_code == 2
    return error.value.problems


def test_a_valid_file_gives_its_identities_by_name(project: Project) -> None:
    """In the file's order, without a warning."""
    identities, warnings = accept(project, "b", "a")
    assert list(identities) == ["b", "a"]
    assert warnings == []
    assert identities["a"].client_secret == SECRET
    assert SECRET not in f"{identities!r} {identities['a']}"


ACCEPTED: dict[str, list[Any]] = {
    "identity_name": [
        *("a", "9", "my-ai-agent", "A.b_c-d", "a" * 128, "console", "com", "auxiliary", "a.con"),
        *("entra-identities2", "mcp2", "a..b", "_a", "my agent", "svc@corp", "a+b", "ag\u00e8nt"),
        *(
            "\u0430\u0433\u0435\u043d\u0442",
            "\u4ee3\u7406",
            "\u0e17\u0e35\u0e48",
            "\u0663",
            "a" * 128,
        ),
        *("\u0101" * 100, "c o n", "x con"),
    ],
    "tenant_id": [
        *(TENANT, TENANT.upper(), "contoso.com", "contoso.onmicrosoft.com", "a.b.c.example"),
        *("xn--bcher-kva.example", f"{'a' * 63}.example"),
    ],
    "client_id": [CLIENT, "not-a-guid"],
    "client_secret": [SECRET, "a", "~._-" * 10, "with space inside"],
    "scope": [
        *(f"api://{GATEWAY}/.default", "https://graph.microsoft.com/.default"),
        *(
            "api://contoso.com/my/app/.default",
            f"{GATEWAY}/.default",
            "https://x.example//.default",
        ),
    ],
    "login_base_url": [CLOUDS["usgov"], f"{CLOUDS['china']}/", f"{CLOUDS['public']}:443", None],
    "cloud": ["public", "usgov", "china", None],
}
REFUSED: dict[str, list[Any]] = {
    "identity_name": [
        *(
            "",
            " ",
            " a",
            "a ",
            "a\n",
            "-a",
            ".a",
            "+a",
            "@a",
            "a.",
            "a  b",
            "a/b",
            "a\\b",
            "..",
            "a:b",
        ),
        *("a" * 129, "\u0101" * 101, "\u0301a", "a\u00bd", "\u2460", "a\u200db", "a\u00a0b"),
        *(
            "a\0",
            "a*",
            "~",
            "../a",
            "/etc/passwd",
            "\ud800",
            "a!",
            "a'b",
            'a"b',
            "a$b",
            "a;b",
            "a,b",
        ),
        *("con", "CON", "con.txt", "nul", "Prn", "AUX", "com1", "LPT9", "com0.x", "lpt0", "con .x"),
        *("entra-identities", "Entra-Identities", "mcp", "MCP", "vscode_mcp", "VSCODE_mcp"),
    ],
    "tenant_id": [
        *("", " ", f" {TENANT}", f"{TENANT}\n", "common", "Common", "organizations", "consumers"),
        *("contoso", "contoso.com/..", "a/b", "a\\b", "a?b.com", "a#b.com", "..", ".com", "a..com"),
        *("-a.com", "a-.com", "a.1", "b\u00fccher.example", f"{'a' * 64}.example", "a.b%2fc.com"),
        *("a@b.com", "your-tenant-id", f"{TENANT}0", "[::1]", "a.com:443", "ab." * 90 + "com"),
    ],
    "client_id": [
        "",
        " ",
        f"{CLIENT} ",
        "a b",
        "a/b",
        "a?b",
        "a#b",
        "a&b",
        "a\\b",
        "a~b",
        "\u00e9",
    ],
    "client_secret": [
        "",
        " ",
        f"{SECRET} ",
        f"\t{SECRET}",
        f"{SECRET}\n",
        "\u00e9",
        "a\0b",
        "\x1b",
    ],
    "scope": [
        *(
            " ",
            "/.default",
            "api://{x}/.default",
            "api://x",
            "api://x/.default ",
            "api://x/.DEFAULT",
            "api://x/read",
        ),
        *("a/.default b/.default", "a/.default\tb/.default", "\u00e9/.default", "a\0/.default"),
        "openid profile",
    ],
    "login_base_url": ["", "http://h", "https://h/tenant", "https://u:p@h", "h", "https://"],
    "cloud": ["", "Public", "germany", " public"],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in ACCEPTED.items() for value in values]
)
def test_a_value_within_the_rules_is_accepted(
    project: Project, field: str, value: str | None
) -> None:
    """Nobody is kept from working by a rule that nobody wrote down, nor made to wait for it."""
    accept(project, sample_fields(**{field: value}))
    entry = make_entry(1, sample_fields(**{field: value}), project.settings())
    assert keeps_the_rules(entry.fields)
    assert problems_of(entry) == []


PAIRS = [
    (field.replace("client_secret", name), value)
    for table in (ACCEPTED, REFUSED, GOOD, BAD)
    for field, values in table.items()
    for name in ("client_secret", "client_secret_previous")
    for value in [*values, None, "", 5, "2026-12-31"]
]
LISTS = st.lists(st.sampled_from(PAIRS) | st.tuples(st.sampled_from([*FIELDS, "x"]), st.booleans()))


@settings(max_examples=500)
@given(changes=LISTS.map(dict), secret=st.booleans())
@example(changes={"managed_identity": "not-a-guid", "client_id": "not-a-guid"}, secret=False)
def test_what_keeps_the_rules_beyond_doubt_is_what_pydantic_accepts(
    changes: dict[str, Any], secret: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever an entry is made of: the short way skips no rule."""
    known = Project(tmp_path_factory.mktemp("project")).settings()
    fields = {**sample_fields(client_secret=SECRET if secret else ...), **changes}
    entry = make_entry(1, fields, known)
    assert keeps_the_rules(entry.fields) is (
        not [each for each in problems_of(entry) if not each.message.startswith("unknown field")]
    )


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in REFUSED.items() for value in values]
)
def test_a_value_outside_the_rules_is_refused_with_its_place(
    project: Project, field: str, value: str
) -> None:
    """Entry and field, in words that are safe to print."""
    (problem,) = refuse(project, "first", sample_fields(**{field: value}))
    assert (problem.entry, problem.field) == (2, field)
    assert str(problem).isprintable()
    if field != "identity_name":
        assert problem.identity_name == "ci"


WRONG = [5, 5.5, True, [], [SECRET], {}, {"a": SECRET}, float("nan"), float("inf"), 10**400]


@pytest.mark.parametrize("value", WRONG, ids=range(len(WRONG)))
@pytest.mark.parametrize("field", ACCEPTED)
def test_a_value_of_another_type_is_refused_with_its_place(
    project: Project, field: str, value: object
) -> None:
    """Without being shown."""
    (problem,) = refuse(project, "first", sample_fields(**{field: value}))
    assert (problem.entry, problem.field) == (2, field)
    assert re.search("must be a string|should be 'public'", problem.message)
    assert SECRET not in str(problem)


@pytest.mark.parametrize("field", ["identity_name", "tenant_id", "client_id", "client_secret"])
@pytest.mark.parametrize("value", [..., None])
def test_a_required_field_is_required(project: Project, field: str, value: object) -> None:
    """Null is no value."""
    (problem,) = refuse(project, sample_fields(**{field: value}))
    assert (problem.entry, problem.field) == (1, field)
    assert problem.message.startswith("is missing" if value is ... else "must be a string")


def test_a_missing_tenant_names_its_variable(project: Project) -> None:
    """Two ways to cure it."""
    (problem,) = refuse(project, sample_fields(tenant_id=...))
    assert "ENTRA_TENANT_ID" in problem.message


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        *(("client_secert", "client_secret"), ("identity-name", "identity_name")),
        *(("tenantid", "tenant_id"), ("scopes", "scope"), ("ClientId", "client_id")),
        ("login_url", "login_base_url"),
    ],
)
def test_an_unknown_field_that_is_nearly_one_is_told_so(
    project: Project, misspelt: str, meant: str
) -> None:
    """Before what is missing because of it. Its value stays unsaid: it may be the secret."""
    problems = refuse(project, sample_fields(**{meant: ..., misspelt: SECRET}))
    (problem,) = (each for each in problems if each.field == misspelt)
    assert problem.message == f"unknown field; did you mean {meant}?"
    assert problems[0] == problem
    assert SECRET not in str(problems)


def test_a_field_that_is_like_none_is_a_warning(project: Project) -> None:
    """The registry's own generator never minded; what it holds stays unsaid."""
    lax = {
        "description": SECRET,
        "notes": "",
        "_comment": [SECRET],
        "enabled": True,
        "groups": ["a"],
        "service_principal_id": CLIENT,
        "client_uuid": CLIENT,
        "client_name": "ci",
        SECRET: 1,
    }
    identities, (warning,) = accept(project, sample_fields(**lax))
    assert warning.startswith("ci: unknown fields are ignored: description, notes, _comment")
    assert SECRET not in f"{warning} {identities}"


def test_a_name_is_one_however_its_accents_are_written(project: Project) -> None:
    """An editor on macOS writes two characters where another writes one."""
    separate, composed = "age\u0300nt", "ag\u00e8nt"
    identities, _ = accept(project, separate)
    assert list(identities) == [composed]
    file = read_entries(project.settings())
    assert [each.name for each in select(file.entries, [separate], "")] == [composed]
    assert len(refuse(project, separate, composed)) == 2


def test_a_mistake_costs_its_own_entry(project: Project) -> None:
    """Each of the kinds of bad entries, beside two good ones."""
    project.content(
        json.dumps(
            [
                sample_fields("first"),
                sample_fields("misspelt", client_id=..., clientid=CLIENT),
                sample_fields("mistyped", scope=5),
                sample_fields("twice"),
                sample_fields("Twice"),
                "text",
                sample_fields("../up"),
                sample_fields("sample", client_secret="your-client-secret"),
                sample_fields("last"),
            ]
        ).replace('"sample",', '"sample", "tenant_id": "x",')
    )
    file = read_entries(project.settings())
    found = validate_each(file.entries)
    assert list(found.identities) == ["first", "last"]
    assert list(found.problems) == [2, 3, 4, 5, 6, 7, 8]
    assert {problem.entry for some in found.problems.values() for problem in some} == {*range(2, 9)}
    assert len(found.problems[8]) == 2
    assert not any(file.entries[index - 1].obvious for index in found.problems)


@pytest.mark.parametrize("empty", [..., None, ""])
@pytest.mark.parametrize(
    ("process", "scope"),
    [
        ({"ENTRA_SCOPE": "api://a/.default", "ENTRA_CLIENT_ID": GATEWAY}, "api://a/.default"),
        (
            {"ENTRA_APPLICATION_ID_URI": "api://b/", "ENTRA_CLIENT_ID": GATEWAY},
            "api://b/.default",
        ),
        ({"ENTRA_CLIENT_ID": GATEWAY}, f"api://{GATEWAY}/.default"),
        ({}, f"api://{CLIENT}/.default"),
    ],
)
def test_a_scope_that_is_absent_comes_from_the_environment(
    project: Project, empty: object, process: dict[str, str], scope: str
) -> None:
    """Else it is the registry's own default, with a warning that the gateway refuses it."""
    project.identities(sample_fields(scope=empty))
    file = read_entries(project.settings(process))
    assert file.obvious
    identities, warnings = validate(file)
    assert identities["ci"].scope == scope
    assert len(warnings) == (not process)


def test_a_pod_with_workload_identity_needs_nothing_but_a_name(project: Project) -> None:
    """The webhook of its cluster has set the rest; and without a file it is `ingress`."""
    process = {
        "AZURE_CLIENT_ID": CLIENT,
        "AZURE_TENANT_ID": TENANT,
        "ENTRA_CLIENT_ID": GATEWAY,
        "AZURE_FEDERATED_TOKEN_FILE": "/var/run/secrets/token",
    }
    (entry,) = read_entries(project.settings(process)).entries
    assert entry.name == "ingress"
    project.identities({"identity_name": "ci"}, sample_fields("other"))
    file = read_entries(project.settings(process))
    identities, _ = validate(file)
    for fields in (entry.fields, dict(file.entries[0].fields)):
        assert (fields["client_id"], fields["tenant_id"]) == (CLIENT, TENANT)
        assert fields["scope"] == f"api://{GATEWAY}/.default"
    assert identities["ci"].credential == "federated_token_file"
    assert identities["other"].credential == "client_secret"


BAD_SINKS: list[Any] = [
    *("x", [1], {"path": "a"}, [{}], [{"path": ""}], [{"path": 5}], [{"path": "a"}, {"path": "a"}]),
    *([{"path": "a", "format": "yaml"}], [{"path": "a", "mode": 640}], [{"path": "a", "x": 1}]),
    *([{"path": "a", "mode": "0666"}], [{"path": "a", "mode": "0700"}], [{"path": "a\nb"}]),
    *([{"path": "a", "format": "netrc"}], [{"path": "a", "owner": "a b"}]),
    *([{"path": "a", "variable": "A B"}], [{"path": "a", "format": "netrc", "machine": "a b"}]),
]


@pytest.mark.parametrize("sinks", BAD_SINKS, ids=str)
def test_a_sink_that_cannot_be_one_is_refused(project: Project, sinks: object) -> None:
    """By the number of its object."""
    (problem,) = refuse(project, sample_fields(sinks=sinks))
    assert problem.field == "sinks"


def test_sinks_are_no_part_of_the_definition(project: Project) -> None:
    """A token is not minted again because somebody else wants to have it."""
    sinks = [
        {"path": "$HOME/a", "format": "raw", "mode": "0640", "owner": "1000", "group": "www-data"},
        {"path": "b", "format": "netrc", "machine": "registry.example"},
        {"path": "c", "format": "dotenv", "variable": "TOKEN"},
    ]
    accept(project, sample_fields(sinks=sinks))
    plain, with_sinks = (
        make_entry(1, sample_fields(**more), project.settings()) for more in ({}, {"sinks": sinks})
    )
    assert plain.fingerprint == with_sinks.fingerprint
    assert with_sinks.obvious


def test_a_host_is_named_in_one_way(project: Project) -> None:
    """Which of two would win is nobody's to guess."""
    changes = {"login_base_url": CLOUDS["usgov"], "cloud": "usgov"}
    (problem,) = refuse(project, sample_fields(**changes))
    assert "login_base_url and cloud exclude one another" in problem.message


def test_all_mistakes_of_a_file_are_told_at_once_in_its_order(project: Project) -> None:
    """Entry by entry, with identity and field as far as they are known."""
    problems = refuse(
        project,
        sample_fields("one", tenant_id="common", client_secret="", scopes="red"),
        "good",
        [],
        sample_fields("ONE"),
        sample_fields(identity_name=...),
    )
    places = [(each.entry, each.identity_name, each.field) for each in problems]
    assert places == [
        (1, "one", "identity_name"),
        (1, "one", "tenant_id"),
        (1, "one", "client_secret"),
        (1, "one", "scopes"),
        (3, None, None),
        (4, "ONE", "identity_name"),
        (5, None, "identity_name"),
    ]


def test_the_message_counts_the_mistakes_and_says_that_nothing_was_requested(
    project: Project,
) -> None:
    """It names the file, too."""
    project.identities(sample_fields(scope="x", client_id=""))
    with pytest.raises(ConfigurationError) as error:
        validate(read_entries(project.settings()))
    assert error.value.message == f"{project.identities_file} has 2 mistakes; nothing was requested"


@pytest.mark.parametrize("name", ["mine", "MINE"])
def test_an_identity_must_not_be_called_like_its_file(project: Project, name: str) -> None:
    """Its token would overwrite it."""
    project.identities(name)
    project.identities_file = project.identities_file.rename(project.folder / "Mine.json")
    file = read_entries(project.settings(identities_file=str(project.identities_file)))
    with pytest.raises(ConfigurationError) as error:
        validate(file)
    assert error.value.problems[0].field == "identity_name"


@pytest.mark.parametrize(
    "name", ["a\x1b[31mb", "a\r\nb", "a\u202eb", "a\u200bb", "a\u2028b", "\ud800", "\x9b"]
)
def test_control_characters_in_names_and_fields_are_not_printed(
    project: Project, name: str
) -> None:
    """In no message of an entry, a field, or a name that stands twice."""
    entries = json.dumps([sample_fields(name), sample_fields(name)])
    doubled = entries.replace("]", f', {{{json.dumps(name)}: 1, {json.dumps(name)}: "x"}}]')
    project.content(doubled)
    file = read_entries(project.settings())
    with pytest.raises(ConfigurationError) as error:
        validate(file)
    assert len(error.value.problems) > 3
    for problem in error.value.problems:
        assert str(problem).isprintable()
        str(problem).encode()


def test_an_endless_name_is_cut_in_messages(project: Project) -> None:
    """A mistake fits on a screen."""
    project.content(
        json.dumps([sample_fields("a" * 10_000), sample_fields("a" * 10_000), {"b" * 10_000: 1}])
    )
    with pytest.raises(ConfigurationError) as error:
        validate(read_entries(project.settings()))
    assert max(len(str(problem)) for problem in error.value.problems) < 400


SECRETS = st.recursive(
    st.just(SECRET) | st.sampled_from([f"{SECRET}\n", f"\x1b{SECRET}", f"your-{SECRET}"]),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=2)
        | st.dictionaries(st.sampled_from(["a", "client_secret", SECRET]), inner, min_size=1)
    ),
    max_leaves=3,
)
PLANTED = st.dictionaries(
    st.sampled_from([*ACCEPTED, "client_secert", "secret", "password", "client_secret_value"]),
    SECRETS,
    min_size=1,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries=st.lists(PLANTED, min_size=1, max_size=3))
def test_no_message_warning_or_repr_ever_holds_a_secret(
    project: Project, entries: list[dict[str, Any]]
) -> None:
    """Wherever it was put by mistake: as any field's value, of any type, under any name.

    The names of identities and fields are shown on purpose, so those are not where it is put.
    """
    for number, entry in enumerate(entries):
        if isinstance(entry.get("identity_name", ""), str):
            entry["identity_name"] = f"ci{number}"
    project.identities(*({**sample_fields(), **entry} for entry in entries))
    file = read_entries(project.settings())
    told: list[object] = [file.entries, file.problems, file.warnings, file]
    try:
        identities, warnings = validate(file)
    except ConfigurationError as error:
        told += ["".join(traceback.format_exception(error)), repr(error), error.hint]
        told += [*error.problems, *map(str, error.problems)]
    else:
        told += [warnings]
        told += [*identities.values(), *map(str, identities.values())]
    assert SECRET not in repr(told)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("my-readable", "token refresher skips"),
        ("bedrock-x", "AgentCore"),
        ("x-AgentCore", "AgentCore"),
        ("x-egress", "egress token"),
        ("my-ingress", "gateway token"),
        ("egress", "gateway token"),
        ("agent-x", "Keycloak"),
        ("x-token", "Keycloak"),
        ("oauth-x", "OAuth session"),
    ],
)
def test_a_name_that_the_registry_treats_specially_is_a_warning(
    project: Project, name: str, why: str
) -> None:
    """With the reason."""
    _, (warning,) = accept(project, name)
    assert warning.startswith(f"{name}: the MCP Gateway Registry treats this name specially")
    assert why in warning


@pytest.mark.parametrize("name", ["ingress", "agents", "my-agent-x", "token-x", "x-oauth-", "ci"])
def test_an_ordinary_name_is_none(project: Project, name: str) -> None:
    """`ingress` is the registry's own and welcome."""
    assert accept(project, name)[1] == []


@pytest.mark.parametrize(
    ("scope", "warned"),
    [
        (f"api://{CLIENT}/.default", True),
        (f"api://{CLIENT.upper()}/.default", True),
        (f"api://{GATEWAY}/.default", False),
        (f"api://x{CLIENT}/.default", False),
    ],
)
def test_a_scope_of_the_identitys_own_application_is_a_warning(
    project: Project, scope: str, *, warned: bool
) -> None:
    """The registry refuses its audience."""
    _, warnings = accept(project, sample_fields(scope=scope))
    assert [bool(re.search("own application", each)) for each in warnings] == [True] * warned


def test_a_secret_id_in_the_secrets_place_is_a_warning(project: Project) -> None:
    """The portal shows it beside the value; it is not repeated."""
    _, (warning,) = accept(project, sample_fields(client_secret=GATEWAY))
    assert "looks like a Secret ID" in warning
    assert GATEWAY not in warning

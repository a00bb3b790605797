"""Writes docs/errors.md anew from the code; run it as a script."""

from __future__ import annotations

import ast
import functools
import importlib
import os
import re
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PACKAGE = os.path.join(PROJECT, "credentials-provider", "credentials_provider")
DOCUMENT = os.path.join(PROJECT, "docs", "errors.md")

KINDS = {
    "rejected": "Entra ID refused the identity or its request",
    "throttled": "Entra ID wants fewer requests",
    "unavailable": "Entra ID has a fault",
    "unreachable": "no connection to the login host",
    "untrusted": "a connection, but no trust in it",
    "bad_response": "the answer is not a token",
    "secret_unavailable": "the identity's credential cannot be read from its source",
    "storage": "the token could not be written, or another run was busy",
    "configuration": "the identity's entry in the identities file has a mistake",
}


USAGE = "UsageError"  # click's, told with the usage line

# One that is passed on, from a message that stands elsewhere.
_OPAQUE = re.compile(r"\{\w+\}")


class Message(NamedTuple):
    """What an error says, with `{names}` where values stand; its cure; its exit code."""

    kind: str  # the class
    text: str
    cure: str
    code: int


class _Module(NamedTuple):
    tree: ast.Module
    constants: dict[str, Any]


@functools.cache
def _modules() -> list[_Module]:
    """All of the package but the emulator, which shares no error with the rest."""
    found = []
    for folder, _, files in sorted(os.walk(PACKAGE)):
        for file in sorted(file for file in files if file.endswith(".py")):
            path = os.path.join(folder, file)
            name = os.path.relpath(path, os.path.dirname(PACKAGE))[:-3].replace(os.sep, ".")
            name = name.removesuffix(".__init__")
            if ".emulator" in name.removesuffix(".cli.emulator") or name.endswith("__main__"):
                continue
            with open(path, encoding="utf-8") as source:
                tree = ast.parse(source.read())
            found.append(_Module(tree, vars(importlib.import_module(name))))
    return found


def own_messages() -> list[Message]:
    """Those that stand where they are raised."""
    return [each for each in messages() if not _OPAQUE.fullmatch(each.text)]


def _exit_codes() -> dict[str, int]:
    """Of every class of errors, by its name."""
    from credentials_provider.errors import EXIT_USAGE, CredentialsProviderError

    codes = {USAGE: EXIT_USAGE}
    classes = [CredentialsProviderError]
    for each in classes:
        classes += each.__subclasses__()
        codes[each.__name__] = each.exit_code
    return codes


def messages() -> Iterator[Message]:
    """Every message of the program's own errors, in the order of the modules."""
    modules = _modules()
    codes = _exit_codes()
    for module in modules:
        for scope in ast.walk(module.tree):
            if isinstance(scope, ast.ClassDef) and scope.name in codes:
                for call in _calls(scope, "__init__"):
                    yield _message(call, scope.name, codes, module)
        for call in _calls(module.tree, *codes):
            yield _message(call, _name(call.func), codes, module)


def _calls(scope: ast.AST, *names: str) -> list[ast.Call]:
    calls = [
        each
        for each in ast.walk(scope)
        if isinstance(each, ast.Call) and each.args and _name(each.func) in names
    ]
    return sorted(calls, key=lambda call: call.lineno)


def _message(call: ast.Call, kind: str, codes: Mapping[str, int], module: _Module) -> Message:
    named = {word.arg: word.value for word in call.keywords}
    cure = named.get("hint", call.args[1] if len(call.args) > 1 else None)
    told = "" if cure is None else _text(cure, module.constants)
    if not told and "problems" in named:
        told = "(each is listed)"
    return Message(kind, _text(call.args[0], module.constants), told, codes[kind])


def entry_messages() -> Iterator[str]:
    """Everything that can be wrong with an entry of the identities file."""
    for module in _modules():
        for call in _calls(module.tree, "Problem"):
            yield _text(call.args[0], module.constants)
        if module.constants["__name__"].endswith(("identities.rules", "identities.fields")):
            for node in ast.walk(module.tree):
                if isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple):
                    yield _text(node.value.elts[1], module.constants)
                elif isinstance(node, ast.Return) and node.value is not None:
                    yield from _refusal(node.value, module.constants)


def _refusal(node: ast.expr, constants: Mapping[str, Any]) -> Iterator[str]:
    """What a rule returns for a value that breaks it: a sentence, or a choice with one."""
    if isinstance(node, ast.IfExp):
        yield from _refusal(node.body, constants)
        yield from _refusal(node.orelse, constants)
    elif isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    ):
        yield _text(node, constants)


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _text(node: ast.expr, constants: Mapping[str, Any]) -> str:
    """A literal's or a constant's text; of any other expression `{what it is about}`."""
    if isinstance(node, ast.Constant):
        return str(node.value or "")
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(value, constants) for value in node.values)
    if isinstance(node, ast.FormattedValue):
        return _text(node.value, constants)
    if isinstance(node, ast.IfExp):
        ways = (_text(node.body, constants), _text(node.orelse, constants))
        return " / ".join(way for way in ways if way)
    if isinstance(node, ast.Call) and _name(node.func) == "cure":
        return "(the command that installs them)"  # it depends on the installation
    names = [each.id for each in ast.walk(node) if isinstance(each, ast.Name)]
    if names and all(name.isupper() for name in names):
        value = eval(ast.unparse(node), dict(constants))  # our own source
        return f"{value:g}" if isinstance(value, float) else str(value)
    return f"{{{_about(node)}}}"


def _about(node: ast.expr) -> str:
    """The name at the heart of an expression."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return _about(node.value) if node.attr in {"strip", "stderr"} else node.attr
    if isinstance(node, ast.Call):
        joins = _name(node.func) == "join" or isinstance(node.func, ast.Name)
        return _about(node.args[0] if joins and node.args else node.func)
    if isinstance(node, (ast.Subscript, ast.Starred)):
        return _about(node.value)
    if isinstance(node, ast.GeneratorExp):
        return _about(node.generators[0].iter)
    if isinstance(node, ast.BoolOp):
        return _about(node.values[0])
    return "…"


def document() -> str:
    """docs/errors.md, as the code has it."""
    from credentials_provider.credentials import keyvault
    from credentials_provider.entra import explanations
    from credentials_provider.errors import EXIT_CODES
    from credentials_provider.minting import FailureKind
    from credentials_provider.run import cluster

    own = own_messages()
    parts = [
        "# Errors",
        (
            "Made from the code by `tests/update_errors.py`. Every error says what happened, to "
            "which identity or file, and what to do; `{names}` stand for values. `status "
            "NAME` repeats an identity's last failure, `doctor` looks for all of them."
        ),
        "## Exit codes",
        (
            "Of `generate`. Other commands end with 0, with 1 where it could not be done, and with "
            "2 for usage or configuration; their `--help` says what more there is."
        ),
        _table(
            ("code", "meaning"),
            [
                *((str(code), text) for code, text in EXIT_CODES.items()),
                ("130, 143", "stopped by SIGINT, SIGTERM; every file is whole"),
            ],
        ),
        "## Kinds of failure",
        (
            "An identity's failure has one of these as `kind` in `--json` and in logs. “Later” "
            "means that trying again can help although nothing was changed. `generate` has done so "
            "already."
        ),
        _table(("kind", "meaning"), ((f"`{kind}`", KINDS[kind]) for kind in get_args(FailureKind))),
        "## Refused by Entra ID",
        (
            "By AADSTS number, else by OAuth error, else by HTTP status. For any other number "
            "the message quotes Entra ID, and links to Microsoft's page about it."
        ),
        _diagnoses("AADSTS, error", explanations.rows("refused")),
        _diagnoses("HTTP", explanations.rows("status")),
        "## Not reached, not trusted, not understood",
        _diagnoses("`unreachable`", explanations.rows("unreachable")),
        _diagnoses("`untrusted`", explanations.rows("untrusted")),
        _diagnoses("`bad_response`", explanations.rows("bad_response")),
        "## Managed identities",
        "In addition to the above, where the machine's own endpoint is asked.",
        _diagnoses("reason", explanations.rows("managed_identity")),
        "## Azure Key Vault",
        "By the vault's inner code, else by HTTP status; each begins with the secret's address.",
        _pairs("code", {**keyvault.FORBIDDEN, **keyvault.REFUSALS}),
        "## Microsoft Graph",
        "By Graph's own code.",
        _diagnoses("code", explanations.rows("graph")),
        "## Kubernetes Secrets",
        "By the HTTP status of the cluster's API; 409, 429 and 5xx count as busy.",
        _pairs("HTTP", cluster.REFUSALS),
        "## The MCP server behind the bridge",
        "By HTTP status. Each begins with the server's name, and ends with its reason, if any.",
        _diagnoses("HTTP", explanations.rows("mcp_server")),
        "## In an entry of the identities file",
        (
            "Each is shown with entry number, identity and field. A mistake costs its own entry; "
            "the others are renewed."
        ),
        _list(text for text in entry_messages() if not text.startswith(("{", "("))),
        "## The program's own",
        _table(
            ("message", "what to do", "exit"),
            dict.fromkeys(
                (each.text, each.cure, str(each.code)) for each in own if each.kind != USAGE
            ),
        ),
        "## Usage",
        "Shown with the command's own usage line, and the nearest command or option (exit code 2).",
        _list(each.text for each in own if each.kind == USAGE),
    ]
    return "\n\n".join(parts) + "\n"


def _diagnoses(head: str, table: Mapping[str, tuple[str, str, bool]]) -> str:
    rows = ((name, *_told(each)) for name, each in table.items())
    return _table((head, "what happened", "what to do", "later"), rows)


def _pairs(head: str, table: Mapping[Any, tuple[str, str]]) -> str:
    rows = ((f"`{name}`", *each) for name, each in table.items())
    return _table((head, "what happened", "what to do"), rows)


def _told(diagnosis: tuple[str, str, bool]) -> tuple[str, str, str]:
    cause, cure, transient = diagnosis
    return cause, cure, "yes" if transient else ""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _list(texts: Iterable[str]) -> str:
    return "\n".join(f"- {_cell(text)}" for text in dict.fromkeys(texts))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").strip()


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(PACKAGE))
    text = document()
    with open(DOCUMENT, "w", encoding="utf-8") as file:
        file.write(text)

"""The whole way from `.env` to a token that the registry takes, looked at piece by piece.

Each check is told by values; whatever one finds, the next are made. Nothing is written.
"""

from __future__ import annotations

import concurrent.futures
import importlib.metadata
import json
import os
import platform
import re
import socket
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from credentials_provider.credentials.resolver import Resolver
from credentials_provider.diagnostics import guide, inspection
from credentials_provider.diagnostics.inspection import Expected, Finding, find_token
from credentials_provider.diagnostics.status import read_status
from credentials_provider.entra import explanations
from credentials_provider.errors import (
    ConfigurationError,
    CredentialsProviderError,
    quoted,
    unexpected,
)
from credentials_provider.identities.fields import GUID, Identity
from credentials_provider.identities.reading import (
    SECRET_KINDS,
    IdentitiesFile,
    authority_base,
    read_entries,
    select,
)
from credentials_provider.identities.validation import validate
from credentials_provider.minting import Failure, Minted
from credentials_provider.model import RunOptions
from credentials_provider.permissions import is_open_at
from credentials_provider.run.batch import entra_minter
from credentials_provider.run.child_environment import without_secrets
from credentials_provider.schedule.found import timers
from credentials_provider.settings import Flags, load_settings
from credentials_provider.tokens.store import iso
from credentials_provider.transport.connections import Answer
from credentials_provider.transport.retrying import Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from credentials_provider.model import Entry
    from credentials_provider.settings import Settings

Verdict = Literal["ok", "warning", "failure"]

MOST_IDENTITIES = 20  # that are asked for without a name
TIMEOUT = 15.0  # seconds for one request
DEADLINE = 60.0  # seconds for all token requests
_OLDEST_PYTHON = (3, 10)
_OK, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 200, 401, 403, 404
_LOCKED = re.compile(r"([A-Za-z0-9._-]+)==([^\s;]+)\s*(;?)")


class Check(NamedTuple):
    """What one look found, and what to do about it."""

    name: str
    verdict: Verdict
    seen: str
    cure: str = ""
    link: str = ""
    identity_name: str | None = None


class Question(NamedTuple):
    """What is to be looked at."""

    root: str
    flags: Flags
    process: Mapping[str, str]
    names: tuple[str, ...] = ()
    registry_url: str | None = None
    scopes_file: str | None = None

    def __repr__(self) -> str:
        return f"Question(names={self.names!r})"


def examine(question: Question, now: float) -> Iterator[Check]:
    """Every check, as soon as it is made."""
    yield from _guarded("python", _python)
    yield from _guarded("packages", lambda: _packages(question.root))
    settings, problems = _settings(question)
    yield from problems
    if settings is None:
        return
    yield from _guarded("settings", lambda: _environment(question, settings))
    entries, problems = _entries(settings, question.names)
    yield from problems
    identities, problems = _identities(settings, entries)
    yield from problems
    yield from _guarded("files", lambda: _files(settings))
    yield from _guarded("credentials", lambda: _credentials(identities, settings))
    bases = dict.fromkeys(
        authority_base(each.fields, settings) for each in entries if each.name in identities
    )
    for base in bases or {settings.login_base_url: None}:
        yield from _guarded("connection", lambda base=base: _connection(base, settings))  # type: ignore[misc]  # mypy and defaults of lambdas
    minted: dict[str, Minted] = {}
    yield from _guarded("token", lambda: _tokens(entries, identities, settings, minted))
    yield from _guarded("claims", lambda: _claims(question, entries, settings, minted, now))
    if question.registry_url:
        url = question.registry_url
        yield from _guarded("registry", lambda: _registry(url, settings, minted))
    process = without_secrets(question.process, entries, settings)
    yield from _guarded("timer", lambda: _timer(process))
    yield from _guarded("last run", lambda: _last_run(settings, now))


def _guarded(name: str, look: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    try:
        yield from look()
    except CredentialsProviderError as error:
        yield Check(name, "failure", error.message, error.hint or "")
    except Exception as error:  # noqa: BLE001  one look that fails must not keep from the next
        yield Check(name, "failure", unexpected(error), "Please report this line.")


# This machine


def _python() -> Iterator[Check]:
    seen = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < _OLDEST_PYTHON:
        yield Check("python", "failure", seen, "Install Python 3.10 or newer.")
    else:
        yield Check("python", "ok", seen)


def _packages(root: str) -> Iterator[Check]:
    wanted = dict(_locked(os.path.join(root, "requirements.lock")))
    missing, other = [], []
    for name, version in wanted.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if found != version:
            other.append(f"{name} {found} in place of {version}")
    again = "Remove .venv and run generate_creds.sh: it makes it anew."
    if missing:
        yield Check("packages", "failure", f"missing: {', '.join(missing)}", again)
    if other:
        yield Check("packages", "warning", f"not as locked: {', '.join(other)}", again)
    if not (missing or other):
        seen = f"{len(wanted)} as in requirements.lock" if wanted else "as they were installed"
        yield Check("packages", "ok", seen)


def _locked(path: str) -> Iterator[tuple[str, str]]:
    """Name and version of each pinned package that any platform needs."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        if (pinned := _LOCKED.match(line)) and not pinned[3]:
            yield pinned[1], pinned[2]


# Settings and identities


def _settings(question: Question) -> tuple[Settings | None, list[Check]]:
    """The settings, or why there are none: a stand-in could send a secret to another host."""
    try:
        return load_settings(question.flags, question.process, question.root), []
    except ConfigurationError as error:
        return None, [
            Check("settings", "failure", error.message, error.hint or "", guide.ENVIRONMENT),
            Check(
                "settings", "warning", "nothing else was checked: it all depends on the settings"
            ),
        ]


def _environment(question: Question, settings: Settings) -> Iterator[Check]:
    path = question.flags.env_file or os.path.join(question.root, ".env")
    for warning in settings.warnings:
        yield Check(".env", "warning", warning, "Write NAME=value lines.", guide.ENVIRONMENT)
    if not os.path.exists(path):
        yield Check(".env", "ok", f"there is none at {path}: the environment alone counts")
    elif is_open_at(path):
        yield Check(".env", "warning", f"{path} can be read by others", f"chmod 600 {quoted(path)}")
    else:
        yield Check(".env", "ok", path)
    provider = settings.environment.get("AUTH_PROVIDER")
    yield Check("AUTH_PROVIDER", "ok", provider or "not set, which means entra")


def _entries(settings: Settings, names: Sequence[str]) -> tuple[list[Entry], list[Check]]:
    try:
        file = read_entries(settings)
        entries = select(file.entries, names, file.path)
    except ConfigurationError as error:
        seen = "; ".join(str(problem) for problem in error.problems)
        return [], [Check("identities", "failure", seen, error.hint or "", guide.MACHINES)]
    checks = [Check("identities", "failure", str(each)) for each in file.problems]
    checks += [
        Check("identities", "warning", each)
        for each in file.warnings
        if "chmod" not in each  # told with the other files
    ]
    return entries, checks


def _identities(
    settings: Settings, entries: Sequence[Entry]
) -> tuple[dict[str, Identity], list[Check]]:
    """Those that are in order, each judged alone."""
    good: dict[str, Identity] = {}
    checks: list[Check] = []
    for entry in entries:
        alone = IdentitiesFile(settings.identities_file, [entry], [], [])
        try:
            found, warnings = validate(alone)
        except ConfigurationError as error:
            checks += [
                Check(
                    "identities",
                    "failure",
                    str(problem),
                    f"Mend it in {settings.identities_file}.",
                    guide.MACHINES,
                    entry.name or None,
                )
                for problem in error.problems
            ]
            continue
        good |= found
        checks += [
            Check("identities", "warning", text, identity_name=entry.name) for text in warnings
        ]
    if good:
        seen = f"{len(good)} of {len(entries)} in order, in {settings.identities_file}"
        checks.append(Check("identities", "ok", seen))
    return good, checks


# Files


def _files(settings: Settings) -> Iterator[Check]:
    folder = settings.output_dir
    if not os.path.isdir(folder):
        yield Check("files", "ok", f"{folder} is made by the first run")
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Check(
            "files",
            "failure",
            f"{folder} cannot be written by {_user()}",
            "Run as its owner, or name another folder with --output-dir.",
        )
    tokens = any(name.endswith(".json") for name in os.listdir(folder))
    wide = [folder] if tokens and is_open_at(folder) else []  # else the first run closes it
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if name.endswith(".json") and not name.startswith("."):
            if is_open_at(path):
                wide.append(path)
            elif not os.access(path, os.R_OK):
                yield Check(
                    "files", "failure", f"{path} cannot be read by {_user()}", "Check its owner."
                )
    if os.path.exists(settings.identities_file) and settings.identities_file not in wide:
        wide += [settings.identities_file] * is_open_at(settings.identities_file)
    for path in wide:
        mode = "700" if os.path.isdir(path) else "600"
        yield Check(
            "files", "warning", f"others can look into {path}", f"chmod {mode} {quoted(path)}"
        )
    if not wide:
        yield Check("files", "ok", f"{folder} and what is in it is its owner's alone")


def _user() -> str:
    return f"user {os.geteuid()}" if hasattr(os, "geteuid") else "this user"


def _credentials(identities: Mapping[str, Identity], settings: Settings) -> Iterator[Check]:
    """Where each credential comes from, and whether it can be had from there."""
    resolver = Resolver(settings, time.time, timeout=TIMEOUT)
    good = 0
    for name, identity in list(identities.items())[:MOST_IDENTITIES]:
        for field in filter(None, (identity.credential, identity.previous)):
            found = resolver.resolve(identity, field)
            if isinstance(found, Failure):
                yield Check(
                    "credentials", "failure", found.message, found.remedy, guide.SECRET, name
                )
                continue
            good += 1
            for warning in found.warnings:
                yield Check("credentials", "warning", warning, identity_name=name)
    if good:
        yield Check("credentials", "ok", f"{good} can be had from where the identities say")


# The way to the provider


def _transport(settings: Settings) -> Transport:
    return Transport(
        timeout=TIMEOUT,
        max_attempts=1,
        deadline=time.monotonic() + DEADLINE,
        connections=8,
        ca_bundle=settings.ca_bundle,
    )


def _connection(base: str, settings: Settings) -> Iterator[Check]:
    parts = urlsplit(base)
    host = parts.hostname or ""
    proxy = _proxy(host)
    if proxy:
        yield Check("proxy", "ok", f"{host} is reached through {proxy}")
    else:
        yield Check("proxy", "ok", f"none for {host}")
        yield _dns(host, parts.port or 443)
    transport = _transport(settings)
    try:
        result = inspection.get_once(
            transport, f"{base}/common/discovery/v2.0/keys", {"Accept-Encoding": "identity"}
        )
    finally:
        transport.close()
    bundle = f" by {settings.ca_bundle}" if settings.ca_bundle else ""
    if not isinstance(result, Answer):
        cause, cure, _ = explanations.explain_trouble(result, host)
        name = "tls" if result.kind == "untrusted" else "connection"
        trusted = f" (authorities of {settings.ca_bundle})" if settings.ca_bundle else ""
        yield Check(name, "failure", f"{base}: {cause}{trusted if name == 'tls' else ''}", cure)
        return
    yield Check("tls", "ok", f"{host} is trusted{bundle}")
    if not _is_key_set(result):
        html = result.body.lstrip()[:1] == b"<"
        if result.status == _OK:
            explained = explanations.explain_bad_response("html" if html else "not_json", host)
        else:
            explained = explanations.explain_status(result.status, None)
        yield Check("connection", "failure", f"{base}: {explained.cause}", explained.cure)
    else:
        yield Check("connection", "ok", f"{base} answers")
    if (skew := result.clock_skew) is not None:
        warning = explanations.clock_skew_warning(skew)
        if warning:
            cause, _, cure = warning.partition(": ")
            yield Check("clock", "warning", cause, cure[:1].upper() + cure[1:] + ".")
        else:
            yield Check("clock", "ok", f"within {max(1, round(abs(skew)))} s of the provider's")


def _proxy(host: str) -> str | None:
    """The proxy for a host, without the login that its address may hold."""
    proxies = urllib.request.getproxies()
    proxy = proxies.get("https") or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(host):
        return None
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}").netloc.rpartition("@")[2]


def _dns(host: str, port: int) -> Check:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        cause, cure, _ = explanations.explain_unreachable("dns", host)
        return Check("dns", "failure", cause, cure)
    return Check("dns", "ok", f"{host} is {found[0][4][0]}")


def _is_key_set(answer: Answer) -> bool:
    try:
        return answer.status == _OK and isinstance(json.loads(answer.body)["keys"], list)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


# Tokens


def _tokens(
    entries: Sequence[Entry],
    identities: Mapping[str, Identity],
    settings: Settings,
    minted: dict[str, Minted],
) -> Iterator[Check]:
    """Ask for a token of each identity, once; what came goes into `minted` and nowhere else."""
    valid = [entry for entry in entries if entry.name in identities]
    asked = valid[:MOST_IDENTITIES]
    request = RunOptions(settings, max_attempts=1, timeout=TIMEOUT, concurrency=8)
    minter = entra_minter(request, identities, time.monotonic() + DEADLINE)
    try:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for entry, result in zip(asked, pool.map(minter.mint, asked), strict=True):
                if isinstance(result, Failure):
                    yield _refusal(entry.name, result)
                else:
                    minted[entry.name] = result
    finally:
        minter.close()
    if minted:
        yield Check("token", "ok", f"{len(minted)} of {len(asked)} identities got one")
    if len(valid) > len(asked):
        left = len(valid) - len(asked)
        yield Check("token", "ok", f"{left} more were not asked for: name one to check it")


def _refusal(name: str, failure: Failure) -> Check:
    codes = [failure.error, f"AADSTS{failure.aadsts}" if failure.aadsts else None]
    told = ", ".join(code for code in codes if code)
    trace = f"; Trace ID {failure.trace_id}" if failure.trace_id else ""
    link = guide.about_code(failure.aadsts) if failure.aadsts else ""
    seen = f"{failure.message}{f' ({told})' if told else ''}{trace}"
    return Check("token", "failure", seen, failure.remedy, link, name)


def expected_of(settings: Settings, entry: Entry) -> Expected:
    """What the registry compares a token of this identity with, as far as it is known here."""
    own = str(entry.fields.get("scope", "")).removeprefix("api://").removesuffix("/.default")
    tenant = settings.tenant_id or entry.fields.get("tenant_id")
    return Expected(
        authority_base(entry.fields, settings),
        tenant if isinstance(tenant, str) and GUID.fullmatch(tenant) else None,
        settings.client_id or (own if GUID.fullmatch(own) else None),
    )


def _claims(
    question: Question,
    entries: Sequence[Entry],
    settings: Settings,
    minted: Mapping[str, Minted],
    now: float,
) -> Iterator[Check]:
    mappings = None
    if question.scopes_file:
        mappings = inspection.read_group_mappings(question.scopes_file)
    for entry in entries:
        if entry.name not in minted:
            continue
        token = find_token(minted[entry.name].access_token)
        if token is None:
            continue
        findings = inspection.registry_findings(token, expected_of(settings, entry), now)
        if mappings is not None:
            findings.append(inspection.mapping_finding(token, mappings))
        good = [finding for finding in findings if finding.ok]
        if len(good) == len(findings):
            seen = ", ".join(f"{each.about}: {each.seen}" for each in good if each.about in _TOLD)
            yield Check("claims", "ok", seen, identity_name=entry.name)
        for finding in findings:
            if not finding.ok:
                yield _finding(entry.name, finding)


_TOLD = ("audience", "groups", "scopes")


def _finding(name: str, finding: Finding) -> Check:
    verdict: Verdict = "warning" if finding.ok is None else "failure"
    seen = f"{finding.about}: {finding.seen}"
    return Check("claims", verdict, seen, finding.cure, finding.link, name)


def _registry(url: str, settings: Settings, minted: Mapping[str, Minted]) -> Iterator[Check]:
    """Show the registry a token, over a way that nobody else can listen on."""
    from credentials_provider.assistants.configure import check_url  # noqa: PLC0415  only here

    check_url(url)
    if not minted:
        yield Check("registry", "failure", "there is no token to show it", "See the checks above.")
        return
    name, token = next(iter(minted.items()))
    transport = _transport(settings)
    try:
        result = inspection.get_once(
            transport,
            f"{url.rstrip('/')}/api/servers",
            {"X-Authorization": f"Bearer {token.access_token}"},
        )
    finally:
        transport.close()
    if not isinstance(result, Answer):
        cause, cure, _ = explanations.explain_trouble(result, urlsplit(url).netloc)
        yield Check("registry", "failure", f"{url}: {cause}", cure)
        return
    verdict, seen, cure, link = _registry_says(result)
    yield Check("registry", verdict, f"{url}: {seen}", cure, link, name)


def _registry_says(answer: Answer) -> tuple[Verdict, str, str, str]:
    if answer.status == _UNAUTHORIZED:
        return (
            "failure",
            "the token is refused (HTTP 401)",
            "Compare issuer and audience above with the registry's ENTRA_… settings.",
            guide.ISSUER,
        )
    if answer.status == _FORBIDDEN:
        return (
            "failure",
            "the token is accepted, but its groups grant nothing (HTTP 403)",
            "Map the token's groups to scopes in the registry's scopes.yml.",
            guide.NO_ACCESS,
        )
    try:
        servers = json.loads(answer.body)["servers"] if answer.status == _OK else None
    except (ValueError, KeyError, TypeError, RecursionError):
        servers = None
    if isinstance(servers, list):
        return "ok", f"the token is accepted and sees {len(servers)} servers", "", ""
    return (
        "failure",
        f"this is no registry's answer (HTTP {answer.status})",
        "Check the address: it is the one that a browser opens, without /api.",
        "",
    )


# What keeps the tokens fresh


def _timer(process: Mapping[str, str]) -> Iterator[Check]:
    if found := timers(process):
        yield Check("timer", "ok", " and ".join(found))
    else:
        yield Check(
            "timer",
            "warning",
            "no timer of this user renews the tokens",
            "`credentials-provider schedule systemd --user --install`, "
            "`credentials-provider schedule cron --install`, or "
            "`credentials-provider watch` in a service of yours.",
        )


def _last_run(settings: Settings, now: float) -> Iterator[Check]:
    try:
        status = read_status(settings, (), now)
    except ConfigurationError:
        return  # told with the identities
    if overdue := status.overdue:
        names = ", ".join(overdue[:5])
        yield Check(
            "last run",
            "failure",
            f"nobody has tried to renew {names}, due for a while",
            "Start the timer, and look at its log: systemctl status, or cron's mail.",
        )
    for row in status.rows:
        if row.failure is not None:
            yield Check(
                "last run",
                "warning" if row.serves else "failure",
                f"{iso(int(row.failure.at))}: {row.failure.message}",
                row.failure.remedy,
                guide.about_code(row.failure.aadsts) if row.failure.aadsts else "",
                row.identity_name,
            )
        elif row.state in {"missing", "unreadable", "changed", "clock"}:
            yield Check(
                "last run",
                "warning",
                f"its token file is {row.state}" if row.state != "clock" else "clock set back",
                "`credentials-provider generate --refresh-ahead` renews it.",
                identity_name=row.identity_name,
            )
    if run := status.last_run:
        yield Check(
            "last run", "ok", f"{iso(int(run.finished_at))} was the last with something to renew"
        )
    else:
        yield Check("last run", "ok", "none has renewed anything here yet")


# The guide's Method 1


def curl(entry: Entry, settings: Settings) -> str:
    """A token request to be made by hand; the secret goes from a variable to curl's stdin.

    Raises:
        ConfigurationError: the identity is not in order.

    """
    import shlex  # noqa: PLC0415  only here

    found, _ = validate(IdentitiesFile(settings.identities_file, [entry], [], []))
    if found[entry.name].credential not in SECRET_KINDS:
        raise ConfigurationError(
            f"{entry.name} has no client secret, and a request by hand needs one",
            hint="`credentials-provider doctor NAME` makes the request with its own credential.",
        )
    fields: Mapping[str, Any] = entry.fields
    base = authority_base(entry.fields, settings)
    words = [
        "curl -sS -X POST " + shlex.quote(f"{base}/{fields['tenant_id']}/oauth2/v2.0/token"),
        '-H "Content-Type: application/x-www-form-urlencoded"',
        f"--data-urlencode {shlex.quote('client_id=' + fields['client_id'])}",
        '--data-urlencode "client_secret@-"',
        f"--data-urlencode {shlex.quote('scope=' + fields['scope'])}",
        '-d "grant_type=client_credentials"',
    ]
    if settings.ca_bundle:
        words.insert(1, f"--cacert {shlex.quote(os.path.abspath(settings.ca_bundle))}")
    return 'printf %s "$CLIENT_SECRET" | ' + " \\\n  ".join(words)

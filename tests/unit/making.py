"""Sample values of every stage, and a stand-in for the provider that mints without a network."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING, Any

from credentials_provider.files import write_whole
from credentials_provider.identities.reading import make_entry
from credentials_provider.minting import Failure, Minted
from credentials_provider.model import Entry, Observer, Report, RunOptions
from credentials_provider.run import batch
from credentials_provider.run.renewal import Minter
from credentials_provider.settings import Flags, Settings, load_settings
from credentials_provider.tokens.store import TokenStore, token_document

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from credentials_provider.identities.identity import Identity
    from credentials_provider.model import Outcome
    from credentials_provider.tokens.plan import OnDisk

NOW = 1_800_000_000
LIFE = 3600
SECRET = "S3CRET-plant~ed.value"
TENANT = "0f5c2f3e-7a1b-4c7d-9e42-5b8a1c6d7e90"
CLIENT = "6d1f0c2b-3e4a-4b5c-8d6e-7f8091a2b3c4"
GATEWAY = "a1b2c3d4-e5f6-4789-8abc-def012345678"

REJECTED = Failure("rejected", "the secret is wrong", "make a new one", error="invalid_client")
UNREACHABLE = Failure("unreachable", "no answer", "check the network", transient=True, attempts=4)


def sample_fields(name: str = "ci", /, **changes: Any) -> dict[str, Any]:
    """A valid entry; a change to `...` removes a field."""
    sample = {
        "identity_name": name,
        "tenant_id": TENANT,
        "client_id": CLIENT,
        "client_secret": SECRET,
        "scope": f"api://{GATEWAY}/.default",
        **changes,
    }
    return {field: value for field, value in sample.items() if value is not ...}


def sample_minted(name: str = "ci", /, *, issued_at: int = NOW, life: int = LIFE) -> Minted:
    return Minted(f"token.of.{name}-{issued_at}", issued_at, life, None, 1, None)


def read_record(path: str) -> OnDisk:
    """What a token file says, as its folder's store reads it."""
    folder, name = os.path.split(path)
    return TokenStore(folder).record(name.removesuffix(".json"))


class Listener(Observer):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.started: list[int] = []
        self.finished: list[Outcome] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def start(self, due: int) -> None:
        self.started.append(due)

    def finish(self, outcome: Outcome) -> None:
        self.finished.append(outcome)


class Provider:
    """Answers each identity as it is told, with a new token by default."""

    def __init__(self, **answers: Minted | Failure | Callable[[], Minted | Failure]) -> None:
        self._answers = answers
        self._lock = threading.Lock()
        self.asked: list[str] = []
        self.made = 0
        self.closed = 0

    def make_minter(
        self,
        request: RunOptions,  # noqa: ARG002  the signature of a minter's maker
        identities: Mapping[str, Identity],
        deadline: float,  # noqa: ARG002
    ) -> Minter:
        self.made += 1

        def mint(entry: Entry) -> Minted | Failure:
            assert entry.name in identities
            with self._lock:
                self.asked.append(entry.name)
            answer = self._answers.get(entry.name) or sample_minted(entry.name)
            return answer if isinstance(answer, (Minted, Failure)) else answer()

        return Minter(mint, self._close)

    def _close(self) -> None:
        self.closed += 1


class Project:
    """A folder with identities and tokens, and runs in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / ".oauth-tokens"
        self.folder.mkdir(mode=0o700)
        self.folder.chmod(0o700)
        self.identities_file = self.folder / "entra-identities.json"
        self.listener = Listener()

    def settings(self, process: Mapping[str, str] | None = None, **flags: str | None) -> Settings:
        return load_settings(Flags(**flags), process or {}, str(self.root))

    def identities(self, *entries: object) -> None:
        """Write the identities file, 0600; a text stands for a sample entry of that name."""
        objects = [sample_fields(each) if isinstance(each, str) else each for each in entries]
        self.content(json.dumps(objects))

    def content(self, content: str | bytes) -> None:
        data = content.encode() if isinstance(content, str) else content
        self.identities_file.write_bytes(data)
        self.identities_file.chmod(0o600)

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def token(
        self,
        name: str,
        *,
        issued_at: int = NOW - 60,
        life: int = LIFE,
        renew_at: int | None = None,
        **changes: Any,
    ) -> bytes:
        """Put a token file of the sample entry in place; `changes` are to its document."""
        entry = make_entry(1, sample_fields(name), self.settings())
        minted = sample_minted(name, issued_at=issued_at, life=life)
        at = issued_at + life // 2 if renew_at is None else renew_at
        document = {**token_document(entry, minted, at), **changes}
        document = {field: value for field, value in document.items() if value is not ...}
        write_whole(str(self.path(name)), json.dumps(document))
        return self.path(name).read_bytes()

    def content_of(self, name: str, content: str) -> None:
        """Put anything where a token file belongs."""
        write_whole(str(self.path(name)), content)

    def document(self, name: str) -> dict[str, Any]:
        document = json.loads(self.path(name).read_bytes())
        assert isinstance(document, dict)
        return document

    def names(self) -> set[str]:
        """What is in the token folder, without what belongs to the folder itself."""
        return {path.name for path in self.folder.iterdir()} - {
            ".credentials-provider.lock",
            ".credentials-provider-state.json",
            ".gitignore",
            self.identities_file.name,
        }

    def run(
        self,
        provider: Provider | None = None,
        *,
        settings: Settings | None = None,
        observer: Observer | None = None,
        now: float = NOW,
        **request: Any,
    ) -> Report:
        return batch.run(
            RunOptions(settings or self.settings(), **request),
            observer or self.listener,
            make_minter=(provider or Provider()).make_minter,
            now=lambda: now,
        )

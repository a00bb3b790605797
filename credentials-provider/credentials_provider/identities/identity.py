"""One valid identity.

Apart from the table of fields, which a run with nothing due reads: that one makes no identity, and
a dataclass takes half a millisecond to make.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from credentials_provider.identities.fields import (
    CREDENTIAL_KINDS,
    DEFINITION_FIELDS,
    FIELDS,
    PREVIOUS_KINDS,
    SECRETS_FOLDER,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Identity:
    """One valid identity. `more` has the other fields of the table, a secret perhaps among them.

    Each of them can be read as an attribute: None where it is absent.
    """

    identity_name: str
    tenant_id: str
    client_id: str
    scope: str
    more: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Identity:
        """An identity of fields that were validated."""
        name, tenant_id, client_id, scope = (fields[each] for each in DEFINITION_FIELDS)
        others = (each for each in FIELDS if each in fields and each not in DEFINITION_FIELDS)
        return cls(name, tenant_id, client_id, scope, {each: fields[each] for each in others})

    def __getattr__(self, name: str) -> Any:
        if name in FIELDS:
            return self.more.get(name)
        raise AttributeError(name)

    @property
    def credential(self) -> str:
        """The field that says where the credential comes from."""
        return next(kind for kind in CREDENTIAL_KINDS if kind in self.more)

    @property
    def previous(self) -> str | None:
        """The field of a second secret, during a rotation."""
        return next((kind for kind in PREVIOUS_KINDS if kind in self.more), None)

    @property
    def is_rotated(self) -> bool:
        """Whether `identities rotate` made its secret: then that removes the previous one, too."""
        place = str(self.more.get("client_secret_file", ""))
        return place.startswith(f"{SECRETS_FOLDER}/") and "~" in place

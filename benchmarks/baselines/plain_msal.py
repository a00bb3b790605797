"""What a user with many identities would write: msal in 32 threads, on one shared session.

plain_msal.py IDENTITIES_FILE FOLDER LOGIN_BASE_URL CA_FILE
"""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msal
import requests
from requests.adapters import HTTPAdapter

WORKERS = 32

identities_file, folder, base_url, ca_file = sys.argv[1:]
with open(identities_file, encoding="utf-8") as file:
    identities = json.load(file)
session = requests.Session()
session.verify = ca_file
session.mount("https://", HTTPAdapter(pool_connections=1, pool_maxsize=WORKERS))
http_cache: dict[str, Any] = {}  # shared: one discovery a tenant instead of one an identity


def mint(identity: dict[str, str]) -> None:
    """Ask for a token and write it down."""
    app = msal.ConfidentialClientApplication(
        identity["client_id"],
        client_credential=identity["client_secret"],
        authority=f"{base_url}/{identity['tenant_id']}",
        instance_discovery=False,
        http_client=session,
        http_cache=http_cache,
    )
    result = app.acquire_token_for_client([identity["scope"]])
    if "access_token" not in result:
        raise SystemExit(result["error"])
    with open(os.path.join(folder, identity["identity_name"] + ".json"), "w") as file:
        json.dump(result, file)


with ThreadPoolExecutor(WORKERS) as workers:
    for _ in workers.map(mint, identities):
        pass

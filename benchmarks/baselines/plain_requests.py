"""What a user would write first: requests, one identity after the other.

plain_requests.py IDENTITIES_FILE FOLDER LOGIN_BASE_URL CA_FILE
"""

import json
import os
import sys

import requests

identities_file, folder, base_url, ca_file = sys.argv[1:]
with open(identities_file, encoding="utf-8") as file:
    identities = json.load(file)
for identity in identities:
    answer = requests.post(
        f"{base_url}/{identity['tenant_id']}/oauth2/v2.0/token",
        data={
            "grant_type": "client_credentials",
            "client_id": identity["client_id"],
            "client_secret": identity["client_secret"],
            "scope": identity["scope"],
        },
        verify=ca_file,
        timeout=20,
    )
    answer.raise_for_status()
    with open(os.path.join(folder, identity["identity_name"] + ".json"), "w") as file:
        json.dump(answer.json(), file)

"""What a service does with hvac at a Vault server. Prints one JSON document.

usage: vault_client.py ADDRESS CA_FILE ROLE_ID SECRET_ID JWT
"""

import json
import sys

import hvac
from hvac import exceptions


def refused(call, **arguments):
    try:
        call(**arguments)
    except exceptions.VaultError as error:
        return [type(error).__name__, *(error.errors or [])]
    return ["allowed"]


def key_value(client) -> dict:
    kv = client.secrets.kv.v2
    at = {"path": "db/shop", "mount_point": "secret"}
    kv.create_or_update_secret(secret={"password": "first"}, **at)
    kv.create_or_update_secret(secret={"password": "second"}, cas=1, **at)
    newest = kv.read_secret_version(raise_on_deleted_version=True, **at)["data"]
    oldest = kv.read_secret_version(version=1, raise_on_deleted_version=True, **at)["data"]
    kv.delete_latest_version_of_secret(**at)
    gone = refused(kv.read_secret_version, raise_on_deleted_version=True, **at)
    told = kv.read_secret_version(raise_on_deleted_version=False, **at)["data"]
    kv.undelete_secret_versions(versions=[2], **at)
    kv.destroy_secret_versions(versions=[1], **at)
    versions = kv.read_secret_metadata(**at)["data"]["versions"]
    return {
        "newest": [newest["data"], newest["metadata"]["version"]],
        "oldest": [oldest["data"], oldest["metadata"]["version"]],
        "gone": gone,
        "told": [told["data"], told["metadata"]["deletion_time"] != ""],
        "destroyed": [versions["1"]["destroyed"], versions["2"]["destroyed"]],
        "stale": refused(kv.create_or_update_secret, secret={"password": "third"}, cas=1, **at),
        "none": refused(kv.read_secret_version, path="db/none", mount_point="secret", raise_on_deleted_version=True),
    }


def database(client) -> dict:
    dynamic = client.secrets.database.generate_credentials(name="edge", mount_point="database")
    lease = dynamic["lease_id"]
    renewed = client.sys.renew_lease(lease_id=lease, increment=120)
    known = client.sys.read_lease(lease_id=lease)["data"]
    client.sys.revoke_lease(lease_id=lease)
    static = client.secrets.database.get_static_credentials(name="fixed", mount_point="database")["data"]
    return {
        "lease": [lease.startswith("database/creds/edge/"), dynamic["renewable"], dynamic["lease_duration"]],
        "data": sorted(dynamic["data"]),
        "user": dynamic["data"]["username"],
        "renewed": [renewed["lease_id"] == lease, renewed["renewable"], renewed["lease_duration"]],
        "known": [known["id"] == lease, known["renewable"], known["ttl"]],
        "revoked": refused(client.sys.renew_lease, lease_id=lease),
        "static": [static["username"], static["rotation_period"], sorted(static)],
        "unknown": refused(client.secrets.database.generate_credentials, name="other", mount_point="database"),
    }


def tokens(client) -> dict:
    mine = client.auth.token.lookup_self()["data"]
    renewed = client.auth.token.renew_self(increment=60)["auth"]
    return {
        "mine": [mine["renewable"], mine["ttl"], mine["policies"]],
        "renewed": [renewed["client_token"] == client.token, renewed["lease_duration"]],
    }


def main(address: str, ca_file: str, role_id: str, secret_id: str, jwt: str) -> dict:
    client = hvac.Client(url=address, verify=ca_file)
    wrong = refused(client.auth.approle.login, role_id=role_id, secret_id="wrong")
    nobody = refused(client.auth.token.lookup_self)
    login = client.auth.approle.login(role_id=role_id, secret_id=secret_id)["auth"]
    found = {
        "wrong": wrong,
        "nobody": nobody,
        "login": [login["client_token"] == client.token, login["renewable"], login["lease_duration"]],
        "tokens": tokens(client),
        "key_value": key_value(client),
        "database": database(client),
        "elsewhere": refused(client.adapter.get, url="/v1/other/mount"),
    }
    client.auth.token.revoke_self()
    found["ended"] = refused(client.auth.token.lookup_self)
    by_jwt = hvac.Client(url=address, verify=ca_file, namespace="teams/a")
    by_jwt.auth.jwt.jwt_login(role="gateway", jwt=jwt)
    found["by_jwt"] = by_jwt.auth.token.lookup_self()["data"]["ttl"]
    found["denied"] = refused(by_jwt.secrets.kv.v2.read_secret_version, path="db/shop", mount_point="secret", raise_on_deleted_version=True)
    return found


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))

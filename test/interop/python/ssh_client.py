"""What a Python job does with paramiko and the files of `writ fetch ssh`: pins the gateway's host key, logs
in by its certificate, runs commands, moves a file by SFTP, and is refused with another login. Prints one JSON
document."""

import json
import os
import sys

import paramiko


def connect(folder: str, known_hosts: str, host: str, port: int, user: str) -> paramiko.SSHClient:
    key = paramiko.Ed25519Key.from_private_key_file(os.path.join(folder, "id_ed25519"))
    key.load_certificate(os.path.join(folder, "id_ed25519-cert.pub"))
    client = paramiko.SSHClient()
    client.load_host_keys(known_hosts)
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    client.connect(
        host, port=port, username=user, pkey=key, allow_agent=False, look_for_keys=False, timeout=10
    )
    return client


def main(folder: str, known_hosts: str, gateway: str, login: str, target: str, scratch: str) -> None:
    host, port = gateway.rsplit(":", 1)
    report = {}
    client = connect(folder, known_hosts, host, int(port), f"{login}+{target}")
    _, stdout, stderr = client.exec_command("echo out; echo err >&2; exit 4", timeout=10)
    report["out"] = stdout.read().decode()
    report["err"] = stderr.read().decode()
    report["status"] = stdout.channel.recv_exit_status()
    payload = os.urandom(1_500_000)
    sftp = client.open_sftp()
    path = os.path.join(scratch, "paramiko")
    with sftp.open(path, "wb") as remote:
        remote.write(payload)
    with sftp.open(path, "rb") as remote:
        report["same"] = remote.read() == payload
    report["size"] = sftp.stat(path).st_size
    sftp.remove(path)
    shell = client.invoke_shell(term="xterm", width=100, height=30)
    shell.sendall(b"stty size; exit\n")
    shown = b""
    while chunk := shell.recv(4096):
        shown += chunk
    report["window"] = "30 100" in shown.decode(errors="replace")
    client.close()
    try:
        connect(folder, known_hosts, host, int(port), f"root+{target}")
        report["refused"] = ""
    except paramiko.AuthenticationException as error:
        report["refused"] = str(error)
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Credential helpers: the programs `docker-credential-NAME` (docker/docker-credential-helpers).

The action is the argument; stdin takes a key or a JSON object; stdout gives a result or an error.
Errors never show stdout, which may hold a secret, and show stderr as one short line, except after
`store`, whose input is secret. Time and output are bounded.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import shutil
import subprocess
import time
from typing import IO, Final, cast

from brolga.auth.entries import check_credentials
from brolga.errors import CredentialsError, excerpt
from brolga.protocol import Credentials
from brolga.spec.value import Value
from brolga.stream.exit_status import ExitStatusUnknown, wait_for_exit

_TIMEOUT_S: Final = 30.0  # for one action
_MAX_OUTPUT: Final = 1 << 20  # bytes, of stdout and of stderr
_BLOCK: Final = 1 << 16  # bytes
# The username of an identity token.
_TOKEN: Final = "<token>"  # noqa: S105 - a marker, no secret
_SURROGATE: Final = "[\ud800-\udfff]"
_NOT_FOUND: Final = b"credentials not found in native keychain"


class Helper(Value):
    """The program `docker-credential-{name}`, and the `key` of one registry in it.

    The caller checks `name`.
    """

    name: str
    key: str

    @property
    def program(self) -> str:
        """The program's name."""
        return f"docker-credential-{self.name}"

    def get(self) -> Credentials | None:
        """Return the helper's credentials, or None if it has none. Raises CredentialsError."""
        stdout = self._run("get", self.key)
        if stdout is None:
            return None
        pair = _parse_pair(stdout)
        if pair is None:
            raise CredentialsError(
                f"{self.program} get printed something other than credentials; "
                "update it, or take it out of docker's config.json"
            )
        username, secret = pair
        if not (username or secret):
            return None  # some helpers print this instead of an error
        if username == _TOKEN:
            credentials = Credentials(identity_token=secret, source=self.program)
        else:
            credentials = Credentials(username, secret, source=self.program)
        return check_credentials(credentials, f"the output of {self.program} get", "log in again")

    def store(self, credentials: Credentials) -> None:
        """Store the identity token, else username and password. Raises CredentialsError."""
        secret = credentials.identity_token or credentials.password
        username = _TOKEN if credentials.identity_token else credentials.username
        if re.search(_SURROGATE, username + secret):  # JSON must be UTF-8
            raise CredentialsError(
                f"{self.program} cannot keep a name or a password that is not UTF-8"
            )
        message = {"ServerURL": self.key, "Username": username, "Secret": secret}
        self._run("store", json.dumps(message))

    def erase(self) -> bool:
        """Erase the credentials; return whether there were any. Raises CredentialsError."""
        # Helpers differ in what they do if there is nothing to erase.
        if self.get() is None:
            return False
        self._run("erase", self.key)
        return True

    def _run(self, action: str, text: str) -> bytes | None:
        """Run one action with `text` on stdin; return stdout, or None if `get` finds nothing."""
        # Only absolute directories: no program of the current directory is run.
        directories = os.environ.get("PATH", os.defpath).split(os.pathsep)
        search = os.pathsep.join(filter(os.path.isabs, directories))
        path = shutil.which(self.program, path=search)
        if path is None:
            raise CredentialsError(
                f"{self.program} is not on PATH; install it, or take it out of credHelpers and "
                "credsStore in docker's config.json"
            )
        pipe = subprocess.PIPE
        # In this process group and with its terminal: a helper may ask for a passphrase.
        try:
            process = subprocess.Popen(  # noqa: S603 - a plain name, found on PATH
                [path, action], bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe
            )
        except OSError as error:
            raise CredentialsError(
                f"{self.program} cannot be run: {error.strerror}; install it again"
            ) from None
        with process:
            try:
                status, stdout, stderr = self._wait(process, action, text.encode())
            finally:
                process.kill()  # does nothing to a process that has ended
        if status == 0:
            return stdout
        if action == "get" and _NOT_FOUND in stdout + stderr:
            return None
        words = " ".join(stderr.decode("utf-8", "replace").split())
        # After `store` it may repeat the secret, in a spelling of its own.
        words = f" and says {excerpt(words)}" if words and action != "store" else ""
        raise CredentialsError(
            f"{self.program} {action} ended with status {status}{words}; run it by hand to see why"
        )

    def _wait(
        self, process: subprocess.Popen[bytes], action: str, sent: bytes
    ) -> tuple[int, bytes, bytes]:
        deadline = time.monotonic() + _TIMEOUT_S
        try:
            stdout, stderr = _communicate(process, sent, deadline)
            status = wait_for_exit(process, max(0.0, deadline - time.monotonic()))
        except ExitStatusUnknown as error:
            raise CredentialsError(
                f"{self.program} {action}: {error}; whether it failed is unknown"
            ) from None
        except TimeoutError:
            raise CredentialsError(
                f"{self.program} {action} did not end within {_TIMEOUT_S:g} s; "
                "run it by hand to see what it waits for"
            ) from None
        except _OutputTooLarge:
            raise CredentialsError(
                f"{self.program} {action} printed over {_MAX_OUTPUT >> 20} MiB; "
                "it is not a credential helper, or a broken one"
            ) from None
        return status, stdout, stderr


class _OutputTooLarge(Exception):
    """A program printed more than `_MAX_OUTPUT` bytes."""


def _communicate(
    process: subprocess.Popen[bytes], sent: bytes, deadline: float
) -> tuple[bytes, bytes]:
    """Write `sent` to a program; return its stdout and stderr."""
    stdin, stdout, stderr = (
        cast("IO[bytes]", pipe) for pipe in (process.stdin, process.stdout, process.stderr)
    )
    printed = {stdout.fileno(): bytearray(), stderr.fileno(): bytearray()}
    out, err = printed.values()
    os.set_blocking(stdin.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(stdin, selectors.EVENT_WRITE)
        selector.register(stdout, selectors.EVENT_READ)
        selector.register(stderr, selectors.EVENT_READ)
        while selector.get_map():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            for key, _ in selector.select(left_s):
                if key.fileobj is stdin:
                    sent = _write(key.fd, sent)
                    is_open = bool(sent)
                else:
                    block = os.read(key.fd, _BLOCK)
                    printed[key.fd] += block
                    if len(printed[key.fd]) > _MAX_OUTPUT:
                        raise _OutputTooLarge
                    is_open = bool(block)
                if not is_open:
                    selector.unregister(key.fileobj)
                    cast("IO[bytes]", key.fileobj).close()
    return bytes(out), bytes(err)


def _write(fd: int, data: bytes) -> bytes:
    """Write what the pipe takes; return the rest, empty if the pipe is closed."""
    try:
        return data[os.write(fd, data) :]
    except BrokenPipeError:
        return b""


def _parse_pair(stdout: bytes) -> tuple[str, str] | None:
    """Return the username and secret that `get` printed, or None if they are invalid."""
    try:
        document = json.loads(stdout)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    username, secret = document.get("Username", ""), document.get("Secret", "")
    return (username, secret) if isinstance(username, str) and isinstance(secret, str) else None

"""Credential helpers: programs that keep credentials, `docker-credential-NAME`.

Knows their protocol (docker/docker-credential-helpers): the action is the argument, a server's key
or a JSON object goes in by stdin, an answer or an error comes out by stdout. Must not know which
helper is wanted, or why.

Strategy: time and output are bounded, and the bytes of stdout are never shown, since nobody can
tell an error from a secret there. The one sentence that matters is understood; stderr is shown in
one short line, except after a store, whose input is a secret.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import IO, Final, NoReturn, cast

from brolga.auth.validation import check
from brolga.errors import CredentialsError, excerpt
from brolga.protocol import Credentials
from brolga.stream.child_process import ExitStatusUnknown, wait_for_exit

__all__ = ["Helper"]

_MAX_OUTPUT: Final = 1 << 20  # bytes, of stdout and of stderr
_BLOCK: Final = 1 << 16  # bytes
# The username that says that the secret is an identity token.
_TOKEN: Final = "<token>"  # noqa: S105 - a marker, no secret
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_NOT_FOUND: Final = b"credentials not found in native keychain"


@dataclass(frozen=True)
class _Answer:
    status: int
    stdout: bytes
    stderr: bytes

    @property
    def is_not_found(self) -> bool:
        return self.status != 0 and _NOT_FOUND in self.stdout + self.stderr


@dataclass(frozen=True)
class Helper:
    """The program `docker-credential-{name}`, and the `key` of one registry in it.

    `name` is plain, which its maker checks. Each action has `timeout_s` seconds.
    """

    name: str
    key: str
    timeout_s: float

    @property
    def program(self) -> str:
        """The program's name, as messages show it."""
        return f"docker-credential-{self.name}"

    def get(self) -> Credentials | None:
        """Return the credentials that the helper has, or None where it has none.

        Raises CredentialsError where it fails, or answers with something else.
        """
        answer = self._run("get", self.key)
        if answer.is_not_found:
            return None
        if answer.status != 0:
            self._fail("get", answer)
        pair = _pair(answer.stdout)
        if pair is None:
            raise CredentialsError(
                f"{self.program} get answered with what is not credentials; "
                "update it, or take it out of docker's config.json"
            )
        username, secret = pair
        if not (username or secret):
            return None  # some answer with nothing in place of an error
        if username == _TOKEN:
            found = Credentials(identity_token=secret, origin=self.program)
        else:
            found = Credentials(username, secret, origin=self.program)
        return check(found, f"the answer of {self.program} get", "log in again")

    def store(self, credentials: Credentials) -> None:
        """Give the credentials to the helper: the identity token, else username and password.

        Raises CredentialsError where it fails, and for what is no text.
        """
        secret = credentials.identity_token or credentials.password
        username = _TOKEN if credentials.identity_token else credentials.username
        if _SURROGATE.search(username + secret):  # JSON is UTF-8, and they are bytes beside it
            raise CredentialsError(
                f"{self.program} cannot keep a name or a password that is not UTF-8"
            )
        message = json.dumps({"ServerURL": self.key, "Username": username, "Secret": secret})
        answer = self._run("store", message)
        if answer.status != 0:
            self._fail("store", answer)

    def erase(self) -> bool:
        """Make the helper forget the credentials; return whether it had any.

        Raises CredentialsError where it fails.
        """
        # Asked first: what helpers do where there is nothing to erase differs.
        if self.get() is None:
            return False
        answer = self._run("erase", self.key)
        if answer.status != 0:
            self._fail("erase", answer)
        return True

    def _fail(self, action: str, answer: _Answer) -> NoReturn:
        said = " ".join(answer.stderr.decode("utf-8", "replace").split())
        # What was told a secret may repeat it, in a spelling of its own.
        said = f" and says {excerpt(said)}" if said and action != "store" else ""
        raise CredentialsError(
            f"{self.program} {action} ended with status {answer.status}{said}; "
            "run it by hand to see why"
        )

    def _run(self, action: str, text: str) -> _Answer:
        """Run one action of the program; `text` goes to its stdin, never to its arguments."""
        # From PATH's absolute directories: what lies in the current one is not run.
        directories = os.environ.get("PATH", os.defpath).split(os.pathsep)
        search = os.pathsep.join(filter(os.path.isabs, directories))
        path = shutil.which(self.program, path=search)
        if path is None:
            raise CredentialsError(
                f"{self.program} is not on PATH; install it, or take it out of credHelpers and "
                "credsStore in docker's config.json"
            )
        pipe = subprocess.PIPE
        # In our process group and with our terminal: a helper may have to ask for a passphrase.
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
                return self._answer(process, action, text.encode())
            finally:
                process.kill()  # does nothing to one that has ended

    def _answer(self, process: subprocess.Popen[bytes], action: str, sent: bytes) -> _Answer:
        deadline = time.monotonic() + self.timeout_s
        try:
            stdout, stderr = _talk(process, sent, deadline)
            status = wait_for_exit(process, max(0.0, deadline - time.monotonic()))
        except ExitStatusUnknown as error:
            raise CredentialsError(
                f"{self.program} {action}: {error}; nobody can tell whether it failed"
            ) from None
        except TimeoutError:
            raise CredentialsError(
                f"{self.program} {action} did not end within {self.timeout_s:g} s; "
                "run it by hand to see what it waits for"
            ) from None
        except _TooMuch:
            raise CredentialsError(
                f"{self.program} {action} printed over {_MAX_OUTPUT >> 20} MiB; "
                "it is no credential helper, or a broken one"
            ) from None
        return _Answer(status, stdout, stderr)


class _TooMuch(Exception):
    """A program printed more than any answer has."""


def _talk(process: subprocess.Popen[bytes], sent: bytes, deadline: float) -> tuple[bytes, bytes]:
    """Write `sent` to a program and return what it prints on stdout and stderr until their ends.

    Raises TimeoutError at the `deadline` of time.monotonic, _TooMuch.
    """
    stdin, stdout, stderr = (
        cast("IO[bytes]", each) for each in (process.stdin, process.stdout, process.stderr)
    )
    printed = {stdout.fileno(): bytearray(), stderr.fileno(): bytearray()}
    answer = tuple(printed.values())
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
                    sent = _written(key.fd, sent)
                    goes_on = bool(sent)
                else:
                    goes_on = _read(key.fd, printed[key.fd])
                if not goes_on:
                    selector.unregister(key.fileobj)
                    cast("IO[bytes]", key.fileobj).close()
    return bytes(answer[0]), bytes(answer[1])


def _written(fd: int, data: bytes) -> bytes:
    """Write what the pipe takes; return the rest, empty where nobody reads it."""
    try:
        return data[os.write(fd, data) :]
    except BrokenPipeError:
        return b""


def _read(fd: int, into: bytearray) -> bool:
    """Read what is there; return whether more may come."""
    block = os.read(fd, _BLOCK)
    into += block
    if len(into) > _MAX_OUTPUT:
        raise _TooMuch
    return bool(block)


def _pair(stdout: bytes) -> tuple[str, str] | None:
    """Return the username and secret of an answer to `get`, or None where it is none."""
    try:
        document = json.loads(stdout)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    username, secret = document.get("Username", ""), document.get("Secret", "")
    return (username, secret) if isinstance(username, str) and isinstance(secret, str) else None

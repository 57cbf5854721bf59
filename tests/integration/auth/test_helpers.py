"""auth/helpers.py: credential helpers, as real programs on PATH."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from brolga.auth import helpers
from brolga.auth.helpers import Helper
from brolga.errors import CredentialsError
from brolga.protocol import Credentials

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_SECRET = "s3cr3t-value"  # noqa: S105 - what must not be shown
_KEY = "registry.example"


def _helper(name: str = "it") -> Helper:
    return Helper(name, _KEY)


def test_store_get_and_erase(install: Callable[..., Path]) -> None:
    """The protocol get, store, erase, against a program that keeps what it is given."""
    install("it")
    assert _helper().get() is None
    _helper().store(Credentials("someone", _SECRET))
    credentials = _helper().get()
    assert credentials == Credentials("someone", _SECRET)
    assert credentials.source == "docker-credential-it"
    assert Helper("it", "other.example").get() is None
    assert _helper().erase() is True
    assert _helper().erase() is False
    assert _helper().get() is None


def test_store_identity_token(install: Callable[..., Path]) -> None:
    """The username `<token>` says that the secret is an identity token, both ways."""
    path = install("it")
    _helper().store(Credentials("someone", "password", identity_token=_SECRET))
    kept = json.loads(path.with_name("docker-credential-it.json").read_text())
    assert kept == {_KEY: {"ServerURL": _KEY, "Username": "<token>", "Secret": _SECRET}}
    assert _helper().get() == Credentials(identity_token=_SECRET)


def test_only_action_is_argument(install: Callable[..., Path]) -> None:
    """A command line can be read by everybody on the machine."""
    path = install("it", '#!/bin/sh\necho "$#:$*" >> "$0.arguments"\ncat > /dev/null\n')
    _helper().store(Credentials("someone", _SECRET))
    assert path.with_name("docker-credential-it.arguments").read_text() == "1:store\n"


@pytest.mark.parametrize(
    "answer",
    [
        "{}",
        '{"Username": "", "Secret": ""}',
        '{"ServerURL": "registry.example"}',
    ],
)
def test_get_returns_none_for_empty_output(install: Callable[..., Path], answer: str) -> None:
    """Some helpers answer with nothing in place of 'not found'."""
    install("it", f"#!/bin/sh\necho '{answer}'\n")
    assert _helper().get() is None


@pytest.mark.parametrize("stream", ["1", "2"])
def test_get_returns_none_if_not_found(install: Callable[..., Path], stream: str) -> None:
    """'credentials not found in native keychain' is not an error."""
    text = "credentials not found in native keychain"
    install("it", f"#!/bin/sh\necho {text} >&{stream}; exit 1\n")
    assert _helper().get() is None


@pytest.mark.parametrize(
    "answer",
    [
        _SECRET,
        "",
        f'["{_SECRET}"]',
        f'{{"Username": "someone", "Secret": ["{_SECRET}"]}}',
        f'{{"Username": 7, "Secret": "{_SECRET}"}}',
        f'{{"Username": "someone", "Secret": "{_SECRET}"',
    ],
)
def test_get_rejects_invalid_output_without_showing_it(
    install: Callable[..., Path], error_text: Callable[[BaseException], str], answer: str
) -> None:
    """Helpers' stdout never appears in an error."""
    install("it", f"#!/bin/sh\necho '{answer}'\n")
    with pytest.raises(
        CredentialsError,
        match=r"^docker-credential-it get printed something other than credentials; ",
    ) as caught:
        _helper().get()
    assert _SECRET not in error_text(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        ({"Username": "someone", "Secret": f"{_SECRET}\n"}, "control .* in the password"),
        ({"Username": "some\none", "Secret": _SECRET}, "control .* in the username"),
        ({"Username": "<token>", "Secret": f"{_SECRET}\r\nX: y"}, "in the identity token"),
        ({"Username": "someone", "Secret": f"{_SECRET}\ud800"}, "surrogate.* in the password"),
    ],
)
def test_get_rejects_invalid_credentials(
    install: Callable[..., Path],
    error_text: Callable[[BaseException], str],
    answer: dict[str, str],
    part: str,
) -> None:
    """A token with a line break would end its header, and what follows would be another."""
    install("it", f"#!/bin/sh\ncat > /dev/null\ncat <<'.'\n{json.dumps(answer)}\n.\n")
    with pytest.raises(
        CredentialsError, match=f"^the output of docker-credential-it get has .*{part}"
    ) as caught:
        _helper().get()
    assert _SECRET not in error_text(caught.value)


def test_store_rejects_bytes_that_are_not_utf8(
    install: Callable[..., Path], error_text: Callable[[BaseException], str]
) -> None:
    """Its protocol is JSON: they would come back as something else."""
    path = install("it")
    with pytest.raises(CredentialsError, match="not UTF-8") as caught:
        _helper().store(Credentials("someone", f"{_SECRET}\udcff"))
    assert _SECRET not in error_text(caught.value)
    assert not path.with_name("calls.txt").exists()


def test_get_rejects_output_that_is_not_json(install: Callable[..., Path]) -> None:
    """Neither bytes that are no UTF-8 nor nesting without end are more than a wrong answer."""
    path = install("it", '#!/bin/sh\ncat "$0.answer"\n')
    for answer in (b"\xff\xfe\xfd", b"[" * 100_000):
        path.with_name("docker-credential-it.answer").write_bytes(answer)
        with pytest.raises(CredentialsError, match="something other than credentials"):
            _helper().get()


def test_failure_shows_stderr(
    install: Callable[..., Path], error_text: Callable[[BaseException], str]
) -> None:
    """The status, one bounded printable line of stderr, nothing of stdout."""
    words = r"no\tway\n\033[2J" + "x" * 500
    install("it", f"#!/bin/sh\necho {_SECRET}; printf '{words}' >&2; exit 3\n")
    with pytest.raises(CredentialsError) as caught:
        _helper().get()
    message = str(caught.value)
    assert message.startswith(
        r"docker-credential-it get ended with status 3 and says 'no way \x1b[2Jxxx"
    )
    assert message.endswith("; run it by hand to see why")
    assert message.isprintable()
    assert len(message) < 300
    assert _SECRET not in error_text(caught.value)


def test_failure_without_stderr(install: Callable[..., Path]) -> None:
    """A helper that exits 1 and says nothing."""
    install("it", "#!/bin/sh\nexit 1\n")
    with pytest.raises(
        CredentialsError, match=r"^docker-credential-it get ended with status 1; run it by hand"
    ):
        _helper().get()


def test_helper_killed_by_signal(install: Callable[..., Path]) -> None:
    """A crash is a failure too."""
    install("it", "#!/bin/sh\nkill -KILL $$\n")
    with pytest.raises(CredentialsError, match="ended with status -9"):
        _helper().get()


@pytest.mark.parametrize(
    "credentials",
    [Credentials("someone", _SECRET), Credentials(identity_token=f'"{_SECRET}"\n{_SECRET}')],
)
def test_store_failure_hides_stderr(
    install: Callable[..., Path],
    error_text: Callable[[BaseException], str],
    credentials: Credentials,
) -> None:
    """No secret is in an error, even if a helper says it on both its streams."""
    install("it", '#!/bin/sh\ncat > "$0.in"; cat "$0.in"; cat "$0.in" >&2; exit 1\n')
    with pytest.raises(CredentialsError) as caught:
        _helper().store(credentials)
    assert str(caught.value) == (
        "docker-credential-it store ended with status 1; run it by hand to see why"
    )
    assert _SECRET not in error_text(caught.value)


def test_erase_raises_if_helper_fails(install: Callable[..., Path]) -> None:
    """A helper that finds, and cannot erase."""
    install(
        "it",
        """#!/bin/sh
        [ "$1" = get ] && exec echo '{"Username": "someone", "Secret": "s3cr3t-value"}'
        echo not implemented >&2; exit 1
        """,
    )
    with pytest.raises(
        CredentialsError, match=r"docker-credential-it erase .* says 'not implemented'"
    ):
        _helper().erase()


def test_slow_helper_is_killed(
    install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A helper has a bounded time; the program is gone when the error comes."""
    install("it", "#!/bin/sh\nexec sleep 600\n")
    started = []

    class _Noted(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", _Noted)
    monkeypatch.setattr(helpers, "_TIMEOUT_S", 0.1)
    with pytest.raises(
        CredentialsError,
        match=r"^docker-credential-it get did not end within 0\.1 s; run it by hand",
    ):
        _helper().get()
    assert [process.returncode for process in started] == [-signal.SIGKILL]


@pytest.mark.parametrize("action", ["get", "store", "erase"])
def test_lost_exit_status_is_error(install: Callable[..., Path], action: str) -> None:
    """Where SIGCHLD is ignored, `subprocess` says 0 of a helper that failed to store."""
    install("it", "#!/bin/sh\necho '{}'\nexit 1\n")
    act = {
        "get": _helper().get,
        "store": lambda: _helper().store(Credentials("me", "secret")),
        "erase": _helper().erase,
    }[action]
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with pytest.raises(CredentialsError, match="its exit status is not known"):
            act()
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_timeout_after_output_is_closed(
    install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time counts to the program's end, not to that of its output."""
    monkeypatch.setattr(helpers, "_TIMEOUT_S", 1.0)
    install("it", "#!/bin/sh\nexec sleep 600 >&- 2>&- <&-\n")
    with pytest.raises(CredentialsError, match=r"did not end within 1 s"):
        _helper().get()


def test_timeout_of_zero(install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that has passed is an error, never a wait without end."""
    monkeypatch.setattr(helpers, "_TIMEOUT_S", 0.0)
    install("it", "#!/bin/sh\nexec sleep 600\n")
    with pytest.raises(CredentialsError, match="did not end within 0 s"):
        _helper().get()


@pytest.mark.parametrize("stream", ["1", "2"])
def test_too_much_output_is_error(install: Callable[..., Path], stream: str) -> None:
    """Output is bounded: 10 MB are not taken, and neither are those that never end."""
    install(
        "it", f"#!/bin/sh\nhead -c 10000000 /dev/zero >&{stream}\nexec cat /dev/zero >&{stream}\n"
    )
    with pytest.raises(CredentialsError, match=r"^docker-credential-it get printed over 1 MiB; "):
        _helper().get()


def test_helper_that_does_not_read_stdin(install: Callable[..., Path]) -> None:
    """A helper may answer without reading; the rest of what it was given is dropped."""
    install("it", "#!/bin/sh\nexec <&-\necho stored\n")
    _helper().store(Credentials("someone", "x" * 1_000_000))


def test_long_secret_is_written_while_output_is_read(install: Callable[..., Path]) -> None:
    """Neither side waits for the other: a helper may print before it reads."""
    install("it", '#!/bin/sh\nhead -c 500000 /dev/zero\ncat > "$0.in"\n')
    _helper().store(Credentials("someone", "x" * 500_000))


def test_missing_helper_is_error(programs: Path) -> None:
    """The error names the program and the file that names it."""
    with pytest.raises(
        CredentialsError, match=r"^docker-credential-missing is not on PATH; install it, or take it"
    ):
        _helper("missing").get()


def test_helper_in_current_directory_is_not_run(
    install: Callable[..., Path], programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty or relative part of PATH would run what lies in the current directory."""
    install("it")
    monkeypatch.chdir(programs)
    monkeypatch.setenv("PATH", f".:{os.pathsep}:/nonexistent")
    with pytest.raises(CredentialsError, match="is not on PATH"):
        _helper().get()


def test_helper_that_cannot_be_run_is_error(install: Callable[..., Path]) -> None:
    """An interpreter that is not there."""
    install("it", "#!/nonexistent/interpreter\n")
    with pytest.raises(
        CredentialsError, match=r"^docker-credential-it cannot be run: No such file or directory; "
    ):
        _helper().get()


def test_repr_hides_secrets() -> None:
    """A helper holds the name and the key."""
    assert repr(_helper()) == "Helper(name='it', key='registry.example')"

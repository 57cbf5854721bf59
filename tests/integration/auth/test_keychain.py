"""auth/keychain.py: credentials from helpers."""

from __future__ import annotations

import subprocess
import sys
from base64 import b64encode
from typing import TYPE_CHECKING

import pytest

from brolga.auth import (
    ConfigFiles,
)
from brolga.errors import CredentialsError
from brolga.protocol import Credentials
from brolga.spec.reference import Repository

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_APP = Repository.parse("registry.example/team/app")


def _auth(username: str, password: str) -> dict[str, str]:
    return {"auth": b64encode(f"{username}:{password}".encode()).decode()}


def test_config_files_prefer_helper_to_file(
    install: Callable[..., Path], configure: Callable[..., Path]
) -> None:
    """A helper is asked first; 'credentials not found' leads to the next source."""
    install("here", """#!/bin/sh\necho '{"Username": "helped", "Secret": "secret"}'\n""")
    install("none", "#!/bin/sh\necho credentials not found in native keychain; exit 1\n")
    auths = {"registry.example": _auth("filed", "secret")}
    configure({"credsStore": "here", "auths": auths})
    credentials = ConfigFiles().find(_APP)
    assert credentials == Credentials("helped", "secret")
    assert credentials.source == "docker-credential-here"
    configure({"credsStore": "none", "auths": auths})
    assert ConfigFiles().find(_APP) == Credentials("filed", "secret")
    configure({"credsStore": "none"})
    configure({"auths": auths}, "run/containers/auth.json")
    assert ConfigFiles().find(_APP) == Credentials("filed", "secret")


def test_config_files_raises_if_helper_fails(
    install: Callable[..., Path], configure: Callable[..., Path]
) -> None:
    """Any other failure of a helper is raised: anonymous access would hide it."""
    install("broken", "#!/bin/sh\nexit 3\n")
    configure({"credsStore": "broken", "auths": {"registry.example": _auth("filed", "secret")}})
    with pytest.raises(CredentialsError, match="docker-credential-broken get ended with status 3"):
        ConfigFiles().find(_APP)


def test_config_files_raises_if_helper_is_slow(
    install: Callable[..., Path], configure: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A helper that never answers is killed."""
    monkeypatch.setattr("brolga.auth.helpers._TIMEOUT_S", 0.1)
    install("slow", "#!/bin/sh\nexec sleep 600\n")
    configure({"credsStore": "slow"})
    with pytest.raises(CredentialsError, match=r"did not end within 0\.1 s"):
        ConfigFiles().find(_APP)


def test_import_of_auth_is_cheap() -> None:
    """What starts processes, locks files or makes temporary ones is loaded when it is used."""
    code = "import sys, brolga.auth; print({'subprocess', 'fcntl', 'tempfile'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

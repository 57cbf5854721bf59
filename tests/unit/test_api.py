"""The public names: all there, each in one place, in order."""

from __future__ import annotations

import subprocess
import sys

import brolga


def test_all_is_sorted_and_each_name_is_there() -> None:
    """What `__all__` promises can be imported."""
    assert brolga.__all__ == sorted(brolga.__all__)
    for name in brolga.__all__:
        assert getattr(brolga, name) is not None


def test_dir_lists_what_is_not_loaded_yet() -> None:
    """Completion in a shell shows every public name."""
    assert dir(brolga) == brolga.__all__


def test_the_tour_s_names_are_public() -> None:
    """What a caller meets: images and their parts, where they are pushed, who is asked."""
    names = (
        "Image ImageIndex Platform Manifest Index ImageConfig History StoredBlob InMemoryBlob "
        "Keychain default_keychain CredentialsError InvalidManifest PlatformNotFound "
        "push push_layer image"
    )
    assert set(names.split()) <= set(brolga.__all__)


def test_importing_brolga_loads_no_http_library() -> None:
    """A name is loaded when it is first used: the start of the command depends on it."""
    code = "import sys, brolga; print(*sorted({'h11', 'click', 'isal'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""

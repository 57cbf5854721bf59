"""Which form an archive has, and the images that it holds in that form.

Knows what tells Docker's form from OCI's. Must not know whether the archive is a file or a pipe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from brolga.disk.layout import INDEX_FILE
from brolga.errors import CorruptBlob, InvalidManifest
from brolga.stores.archive.contents import source_errors
from brolga.stores.archive.docker import MANIFEST, docker_image, read_manifest_json
from brolga.stores.archive.oci import ArchiveLayout

if TYPE_CHECKING:
    from brolga.images import Tree
    from brolga.spec.platform import Platform
    from brolga.stores.archive.contents import Contents

__all__ = ["Images", "check_form", "whole_is_compressed"]

_FORMS: Final = ("", "docker", "oci")


@dataclass(frozen=True)
class Images:
    """The images of an archive, all of whose files are known.

    `form` is `docker`, `oci` or "": then what has a manifest.json is Docker's.
    """

    contents: Contents
    form: str

    def names(self) -> tuple[str, ...]:
        """Return how each image can be named: by tags or names, else by config or digest.

        Raises InvalidManifest where the archive has not what its form needs.
        """
        with source_errors():
            if self._is_docker:
                images = read_manifest_json(self.contents).values()
                return tuple(name for names in images for name in names.shown)
            return ArchiveLayout(self.contents).names

    def tree(self, name: str = "", platform: Platform | None = None) -> Tree:
        """Return an image or index by its name; "" is the only one.

        Of several images of one name, or of all for "", `platform` chooses one.

        Raises ImageNotFound, which lists the names, PlatformNotFound, InvalidManifest where it is
        broken.
        """
        with source_errors():
            if self._is_docker:
                return docker_image(self.contents, name, platform)
            return ArchiveLayout(self.contents).tree(name, platform)

    @property
    def _is_docker(self) -> bool:
        if self.form:
            return self.form == "docker"
        if MANIFEST in self.contents:
            return True
        if INDEX_FILE not in self.contents:
            raise InvalidManifest(
                "not an archive of images: it has neither manifest.json nor index.json at its root"
            )
        return False


def check_form(form: str) -> None:
    """Raise ValueError for the name of no form."""
    if form not in _FORMS:
        raise ValueError(f"an archive's form is docker or oci, or not said; not {form!r}")


def whole_is_compressed(name: str) -> CorruptBlob:
    """Return the error for an archive that is in gzip or zstd itself."""
    return CorruptBlob(f"the archive is compressed as a whole: stream it out of `{name} -dc`")

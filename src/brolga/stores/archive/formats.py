"""The images of an archive, in Docker's form or in that of OCI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from brolga.disk.layout import INDEX_FILE
from brolga.errors import CorruptBlob, InvalidManifest
from brolga.spec.mediatypes import detect_compression
from brolga.stores.archive.contents import source_errors
from brolga.stores.archive.docker import MANIFEST, docker_image, read_manifest_json
from brolga.stores.archive.oci import ArchiveLayout
from brolga.stores.store import complete_manifest

if TYPE_CHECKING:
    from brolga.images import Tree
    from brolga.spec.descriptor import Descriptor
    from brolga.spec.platform import Platform
    from brolga.stores.archive.contents import Contents


_FORMS: Final = ("", "docker", "oci")


class Images:
    """The images of an archive whose files are all known, as a `store.ReadStore`.

    `form` is `docker`, `oci` or "": then an archive with a manifest.json is Docker's.
    """

    mount_source: Final = None

    def __init__(self, contents: Contents, form: str) -> None:
        check_form(form)
        self.contents = contents
        self.form = form

    def tags(self) -> tuple[str, ...]:
        """Return the names of the images: tags, else the name of the config or the digest."""
        with source_errors():
            if self._is_docker:
                images = read_manifest_json(self.contents).values()
                return tuple(name for names in images for name in names.shown)
            return ArchiveLayout(self.contents).names

    def tree(self, name: str = "", platform: Platform | None = None) -> Tree:
        """Return the image or index of a name; of several, the one for `platform`."""
        with source_errors():
            if self._is_docker:
                return docker_image(self.contents, name, platform)
            return ArchiveLayout(self.contents).tree(name, platform)

    def resolve(self, name: str = "", platform: Platform | None = None) -> Descriptor:
        """Return the descriptor of an image or index. Layers to be compressed are read for it."""
        return complete_manifest(self.tree(name, platform)).descriptor

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
    """Raise ValueError for an unknown form."""
    if form not in _FORMS:
        raise ValueError(f"an archive's form is docker, oci or empty, not {form!r}")


def check_not_compressed(head: bytes) -> None:
    """Raise CorruptBlob if an archive that begins with `head` is in gzip or zstd itself."""
    if (name := detect_compression(head)) != "none":
        raise CorruptBlob(f"the archive is compressed as a whole: stream it out of `{name} -dc`")

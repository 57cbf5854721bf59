"""Foreign programs: docker-registry, skopeo, umoci, buildah; and images written by hand.

`docker_registry(directory, http=tls(authority), auth=htpasswd(directory, a="secret"))` runs a
registry with these sections of its configuration. A file tree is compared as a dict, so that a
failed assertion shows the entries that differ.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import socket
import stat
import subprocess
import tarfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from tests.images import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.conftest import Authority

__all__ = [
    "PLAIN",
    "READ_ONLY",
    "Access",
    "DockerRegistry",
    "Entry",
    "Image",
    "bcrypt",
    "buildah",
    "certificates",
    "copy",
    "docker_registry",
    "htpasswd",
    "image_id",
    "make_image",
    "mounted",
    "mutual_tls",
    "push",
    "require",
    "skopeo",
    "tls",
    "tree",
    "unpack",
    "write_auths",
]

_PATIENCE_S = 30.0


def require(*programs: str) -> None:
    """Skip a test if a program that it needs is missing."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not on PATH")


# docker-registry


READ_ONLY: Mapping[str, Any] = {"maintenance": {"readonly": {"enabled": True}}}
"""The section `storage` of a registry that refuses what would change it (405)."""


def tls(authority: Authority) -> dict[str, Any]:
    """Return the section `http` of a registry with the tests' own certificate."""
    certificate, key = authority.certificate()
    return {"tls": {"certificate": str(certificate), "key": str(key)}}


def mutual_tls(authority: Authority) -> dict[str, Any]:
    """Return the section `http` of one that wants a certificate of the client's too."""
    return {"tls": {**tls(authority)["tls"], "clientcas": [str(authority.ca_cert)]}}


def htpasswd(directory: Path, **users: str) -> dict[str, Any]:
    """Return the section `auth` of a registry that knows these users by their passwords."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "htpasswd"
    file.write_text("".join(f"{name}:{bcrypt(word)}\n" for name, word in users.items()))
    return {"htpasswd": {"realm": "tests", "path": str(file)}}


def bcrypt(password: str) -> str:
    """Return a password's bcrypt hash, the one that docker-registry takes.

    By the htpasswd program, or else by perl, whose crypt is the C library's.
    """
    if shutil.which("htpasswd"):
        command = ["htpasswd", "-nbB", "user", password]
    elif shutil.which("perl"):
        script = 'print "user:", crypt($ARGV[0], q($2y$05$abcdefghijklmnopqrstuu))'
        command = ["perl", "-e", script, password]
    else:
        pytest.skip("neither htpasswd nor perl is on PATH: nothing here makes a bcrypt hash")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    hashed = done.stdout.strip().partition(":")[2]
    if not hashed.startswith("$2y$") or len(hashed) != 60:
        pytest.skip("the C library's crypt has no bcrypt")
    return hashed


class DockerRegistry:
    """A docker-registry on one directory and one port, which may die and be started again."""

    def __init__(self, directory: Path, sections: Mapping[str, Mapping[str, Any]]) -> None:
        require("docker-registry")
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.storage = directory / "storage"
        self._sections = dict(sections)
        self._process: subprocess.Popen[bytes] | None = None
        # Bound and never listening: it keeps the port while the registry is down.
        self._place = socket.socket()
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._place.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._place.getsockname()[1]}"

    def start(self, **sections: Mapping[str, Any]) -> None:
        """Start it; `sections` replace those that it was made with."""
        assert self._process is None, "it runs"
        self._sections |= sections
        file = self.directory / "config.yml"
        file.write_text(json.dumps(self._configuration()))  # JSON is YAML
        log = self.directory / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", str(file)], stdout=output, stderr=output
            )
        _wait_until_it_listens(self._process, log)

    def _configuration(self) -> dict[str, Any]:
        """Merge the sections into the configuration that all registries share."""
        configuration: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.storage)},
                "delete": {"enabled": True},
            },
            # It seals the state in an upload's URL: with the same secret sessions outlive it.
            "http": {"addr": self.address, "secret": "of the tests"},
        }
        for name, section in self._sections.items():
            configuration[name] = {**configuration.get(name, {}), **section}
        return configuration

    def kill(self) -> None:
        """Stop it with SIGKILL, if it runs."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """Stop it, and give its port back."""
        self.kill()
        self._place.close()


def _wait_until_it_listens(process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until it says so: from then on the kernel takes connections."""
    end = time.monotonic() + _PATIENCE_S
    while "listening on " not in (output := log.read_text()):
        if process.poll() is not None or time.monotonic() > end:
            pytest.fail(f"docker-registry does not run: {output}")
        time.sleep(0.02)


@contextmanager
def docker_registry(directory: Path, **sections: Mapping[str, Any]) -> Iterator[DockerRegistry]:
    """Run docker-registry on a free port of 127.0.0.1, with its storage in `directory`.

    `sections` go into its configuration, over what is there: http, auth, storage.
    """
    registry = DockerRegistry(directory, sections)
    try:
        registry.start()
        yield registry
    finally:
        registry.close()


# skopeo and umoci


@dataclass(frozen=True)
class Access:
    """How skopeo comes to a registry: by https or not, with which certificates and credentials."""

    tls: bool = True
    certificates: Path | None = None  # a directory: `certificates` makes it
    authfile: Path | None = None  # `write_auths` writes it

    def flags(self, side: str = "") -> list[str]:
        """Return the flags; `side` is `src-` or `dest-` for a copy."""
        flags = [] if self.tls else [f"--{side}tls-verify=false"]
        flags += [f"--{side}cert-dir={self.certificates}"] if self.certificates else []
        return flags + ([f"--{side}authfile={self.authfile}"] if self.authfile else [])


PLAIN = Access(tls=False)


def certificates(authority: Authority, directory: Path, *, client: bool = False) -> Path:
    """Fill a directory as docker's certs.d: the authority, and a client's certificate and key."""
    directory.mkdir(parents=True)
    shutil.copy(authority.ca_cert, directory / "ca.crt")
    if client:
        (directory / "extensions").write_text("extendedKeyUsage = clientAuth\n")
        request = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=client"
        sign = f"x509 -req -CA ca.crt -CAkey {authority.directory}/ca.key -CAcreateserial -days 2"
        for command in (
            f"{request} -keyout client.key -out client.csr",
            f"{sign} -in client.csr -extfile extensions -out client.cert",
        ):
            subprocess.run(
                ["openssl", *command.split()], cwd=directory, check=True, capture_output=True
            )
    return directory


def write_auths(
    file: Path,
    *,
    passwords: Mapping[str, tuple[str, str]] | None = None,
    identity_tokens: Mapping[str, str] | None = None,
    helpers: Mapping[str, str] | None = None,
) -> Path:
    """Write credentials by their registries, in the form of docker's config.json."""
    auths = {
        address: {"auth": base64.b64encode(f"{name}:{word}".encode()).decode()}
        for address, (name, word) in (passwords or {}).items()
    }
    for address, token in (identity_tokens or {}).items():
        auths[address] = {
            "auth": base64.b64encode(b"00000000-0000-0000-0000-000000000000:").decode(),
            "identitytoken": token,
        }
    file.write_text(json.dumps({"auths": auths, "credHelpers": dict(helpers or {})}))
    return file


def buildah(
    directory: Path, command: str, *arguments: str | Path, driver: str = "vfs", quiet: bool = True
) -> str:
    """Run buildah with a store of its own, below `directory`; return what it prints.

    With `vfs` its store needs no more of the kernel than files. Skip if this user may not have
    one. `quiet` is for the commands that move an image.
    """
    require("buildah")
    if os.geteuid() != 0:
        pytest.skip("buildah keeps images as root alone, without further set-up")
    directory.mkdir(parents=True, exist_ok=True)
    auth = directory / "auth.json"
    auth.write_text("{}")
    store: list[str | Path] = [
        "--root",
        directory / "store",
        "--runroot",
        directory / "run",
        f"--storage-driver={driver}",
    ]
    flags: list[str | Path] = ["--quiet", "--authfile", auth] if quiet else []
    return _run("buildah", *store, command, *flags, *arguments).strip()


def mounted(layout: Path, tag: str, directory: Path, driver: str) -> dict[str, Entry]:
    """Return the files of an image as a container of buildah's has them (`buildah mount`).

    Skip if the kernel has no overlayfs for it here.
    """
    run = partial(buildah, directory, driver=driver)
    if driver == "overlay" and not _has_overlay(directory):
        pytest.skip("overlayfs cannot be mounted here")
    container = run("from", f"oci:{layout}:{tag}")
    try:
        return tree(Path(run("mount", container, quiet=False)))
    finally:
        run("umount", container, quiet=False)
        run("rm", container, quiet=False)


def _has_overlay(directory: Path) -> bool:
    """Return whether overlayfs can be mounted below a directory."""
    parts = {name: directory / f"overlay-{name}" for name in ("lower", "upper", "work", "merged")}
    for part in parts.values():
        part.mkdir(parents=True, exist_ok=True)
    options = ",".join(f"{name}dir={parts[name]}" for name in ("lower", "upper", "work"))
    command = ["mount", "-t", "overlay", "overlay", "-o", options, str(parts["merged"])]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        return False
    subprocess.run(["umount", parts["merged"]], check=True)
    return True


def image_id(image: Image) -> str:
    """Return an image's ID, as buildah prints it: the digest of its config, in hexadecimal."""
    raw = json.loads(skopeo("inspect", "--raw", image.place))
    return str(raw["config"]["digest"]).removeprefix("sha256:")


def skopeo(*arguments: str | Path) -> str:
    """Run skopeo; return what it prints."""
    return _run("skopeo", "--insecure-policy", *arguments)


def _run(program: str, *arguments: str | Path) -> str:
    require(program)
    done = subprocess.run(
        [program, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def copy(
    source: str,
    target: str,
    *flags: str,
    source_access: Access = PLAIN,
    target_access: Access = PLAIN,
) -> None:
    """Copy an image or all of an index: `docker://…`, `oci:DIRECTORY:TAG`."""
    sides = [(source, "src-", source_access), (target, "dest-", target_access)]
    access = [
        flag
        for place, side, given in sides
        if place.startswith("docker:")
        for flag in given.flags(side)
    ]
    skopeo("copy", "--quiet", "--all", *flags, *access, source, target)


def unpack(layout: Path, tag: str, bundle: Path) -> Path:
    """Unpack an image of an OCI layout with umoci; return where its files are."""
    _run("umoci", "unpack", "--rootless", "--image", f"{layout}:{tag}", bundle)
    return bundle / "rootfs"


class Entry(NamedTuple):
    """A file as `tree` has it: the mode of `ls -l`, its digest or target, its time if asked for."""

    mode: str
    content: str
    mtime_s: int


def tree(directory: Path, *, mtimes: bool = False) -> dict[str, Entry]:
    """Return every entry below a directory by its path: compare two with `==`."""
    entries = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        content = ""
        if stat.S_ISLNK(status.st_mode):
            content = os.fspath(path.readlink())
        elif stat.S_ISREG(status.st_mode):
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        mtime_s = int(status.st_mtime) if mtimes else 0
        name = os.fspath(path.relative_to(directory))
        entries[name] = Entry(stat.filemode(status.st_mode), content, mtime_s)
    return entries


# An image


_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True)
class Image:
    """A tag in an OCI layout, and the digest of its manifest or index."""

    directory: Path
    tag: str
    digest: str

    @property
    def place(self) -> str:
        """Return it as skopeo names it."""
        return f"oci:{self.directory}:{self.tag}"


def make_image(
    directory: Path, platforms: tuple[str, ...] = ("linux/amd64",), size: int = 300_000
) -> Image:
    """Write an image of three layers by hand, an index of images for several platforms.

    The first layer has a file of `size` random bytes, the second removes and replaces, the third
    is the platform's own.
    """
    (directory / "blobs/sha256").mkdir(parents=True)
    shared = [_tar(_FIRST | {"random": random.Random(1).randbytes(size)}), _tar(_SECOND)]
    manifests = [_write_image(directory, platform, shared) for platform in platforms]
    tagged = manifests[0]
    if len(manifests) > 1:
        tagged = _write_blob(directory, _INDEX, _index(*manifests))
    tagged |= {"annotations": {"org.opencontainers.image.ref.name": "v1"}}
    (directory / "index.json").write_bytes(_index(tagged))
    (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return Image(directory, "v1", str(tagged["digest"]))


# A layer by the names in it: None is a directory, str the target of a link, bytes a file.
_Layer = dict[str, bytes | str | None]
_FIRST: _Layer = {
    "etc": None,
    "etc/removed": b"this is removed\n",
    "etc/replaced": b"this is replaced\n",
    "etc/link": "replaced",
    "bin": None,
    "bin/script": b"#!/bin/sh\n",
    "empty": b"",
    "\u00fcml\u00e4ut": b"name",
}
_SECOND: _Layer = {
    "etc": None,
    "etc/.wh.removed": b"",  # image-spec, "Whiteouts"
    "etc/replaced": b"replaced by this\n",
}


def _tar(layer: _Layer) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in layer.items():
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755 if content is None or name.startswith("bin/") else 0o644
            entry.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            if isinstance(content, str):
                entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, content, 0o777
            data = content if isinstance(content, bytes) else b""
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _write_image(directory: Path, platform: str, shared: list[bytes]) -> dict[str, Any]:
    """Write one platform's image; return its descriptor."""
    system, _, architecture = platform.partition("/")
    layers = [*shared, _tar({"platform": f"{platform}\n".encode()})]
    config = {
        "architecture": architecture,
        "os": system,
        "config": {"Cmd": ["/bin/script"]},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
        "history": [{"created_by": f"layer {n}"} for n in range(len(layers))],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _write_blob(directory, _CONFIG, json.dumps(config).encode()),
        "layers": [
            _write_blob(directory, _LAYER, gzip.compress(layer, 6, mtime=0)) for layer in layers
        ],
    }
    entry = _write_blob(directory, _MANIFEST, json.dumps(manifest).encode())
    return entry | {"platform": {"architecture": architecture, "os": system}}


def _index(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": _INDEX, "manifests": entries}).encode()


def _write_blob(directory: Path, media_type: str, data: bytes) -> dict[str, Any]:
    digest = digest_of(data)
    (directory / "blobs" / digest.replace(":", "/")).write_bytes(data)
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def push(image: Image, target: str, *flags: str, access: Access = PLAIN) -> str:
    """Push to `HOST:PORT/NAME:TAG`; return the digest that it has there.

    As it is, or with `--format=v2s2` as docker's manifests.
    """
    file = image.directory / "pushed"
    kept = [] if flags else ["--preserve-digests"]
    copy(
        image.place,
        f"docker://{target}",
        f"--digestfile={file}",
        *kept,
        *flags,
        target_access=access,
    )
    return file.read_text()

"""Documents as the field's writers write them: docker, buildx, oras. Digests are made up."""

import json
from typing import Any

from brolga.spec.digest import Digest


def digest_of(name: str) -> str:
    return str(Digest.of(name.encode()))


def indented(document: object) -> bytes:
    """Write as docker does: three blanks, a line for each member."""
    return json.dumps(document, indent=3).encode()


def changed(document: dict[str, Any], *steps: Any, to: Any) -> dict[str, Any]:
    """Return a copy with one place changed."""
    copy: dict[str, Any] = json.loads(json.dumps(document))
    inner: Any = copy
    for step in steps[:-1]:
        inner = inner[step]
    inner[steps[-1]] = to
    return copy


# docker push, with members that the format does not define, at each depth.
DOCKER: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
    "config": {
        "mediaType": "application/vnd.docker.container.image.v1+json",
        "size": 1512,
        "digest": digest_of("docker config"),
        "com.example.unknown": {"deep": [1, 2.5, None]},
    },
    "layers": [
        {
            "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "size": 2811321,
            "digest": digest_of("layer 0"),
        },
        {
            "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "size": 1654613376,
            "digest": digest_of("layer 1"),
            "urls": ["https://mirror.example/layers/1"],
            "x": [True],
        },
    ],
    "com.example.note": ["kept"],
}

# An OCI image as buildx writes it: no indent, the order of Go's structs.
OCI: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "config": {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": digest_of("oci config"),
        "size": 700,
    },
    "layers": [
        {
            "mediaType": "application/vnd.oci.image.layer.v1.tar+zstd",
            "digest": digest_of("layer 2"),
            "size": 42,
            "annotations": {"buildkit/rewritten-timestamp": "0"},
        }
    ],
    "annotations": {"org.opencontainers.image.version": "1.2.3"},
}

# oras attach: an artifact without a config, about another manifest.
ARTIFACT: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "artifactType": "application/vnd.example.sbom.v1+json",
    "config": {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": str(Digest.of(b"{}")),
        "size": 2,
        "data": "e30=",
    },
    "layers": [
        {
            "mediaType": "text/spdx+json",
            "digest": digest_of("sbom"),
            "size": 9,
            "annotations": {"org.opencontainers.image.title": "sbom.json"},
        }
    ],
    "subject": {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest_of("image"),
        "size": 1000,
    },
    "annotations": {"org.opencontainers.image.created": "2026-01-02T03:04:05Z"},
}


def child(name: str, **more: Any) -> dict[str, Any]:
    return {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest_of(name),
        "size": 500,
        **more,
    }


# buildx build --platform linux/amd64,linux/arm64 --provenance=true
BUILDX: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.index.v1+json",
    "manifests": [
        child(
            "attestation of amd64",
            annotations={
                "vnd.docker.reference.digest": digest_of("amd64"),
                "vnd.docker.reference.type": "attestation-manifest",
            },
            platform={"architecture": "unknown", "os": "unknown"},
        ),
        child("amd64", platform={"architecture": "amd64", "os": "linux"}),
        child("arm64", platform={"architecture": "arm64", "os": "linux", "variant": "v8"}),
    ],
}

# A manifest list of docker, with Windows.
DOCKER_LIST: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
    "manifests": [
        {
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "size": 1167,
            "digest": digest_of("windows 2022"),
            "platform": {
                "architecture": "amd64",
                "os": "windows",
                "os.version": "10.0.20348.1",
                "os.features": ["win32k"],
                "features": ["sse4"],
            },
        },
        {
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "size": 1168,
            "digest": digest_of("windows 2019"),
            "platform": {"architecture": "amd64", "os": "windows", "os.version": "10.0.17763.1"},
        },
    ],
}

# The config of a Dockerfile's build: null where Go has nothing, members of docker's own.
CONFIG: dict[str, Any] = {
    "architecture": "arm64",
    "config": {
        "Hostname": "",
        "Env": ["PATH=/usr/bin:/bin"],
        "Cmd": ["/bin/sh"],
        "Volumes": None,
        "OnBuild": None,
        "ExposedPorts": {"8080/tcp": {}},
        "Labels": {"com.example.a": "1"},
        "ArgsEscaped": True,
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5000000000},
    },
    "container": "c0ffee",
    "created": "2026-01-02T03:04:05.123456789Z",
    "docker_version": "20.10.23",
    "history": [
        {
            "created": "2026-01-01T00:00:00Z",
            "created_by": "/bin/sh -c #(nop) ADD file:1 in / ",
            "x": {"y": 1},
        },
        {
            "created_by": '/bin/sh -c #(nop)  CMD ["/bin/sh"]',
            "created": "2026-01-01T00:00:01Z",
            "empty_layer": True,
        },
        {"created_by": "RUN /bin/sh -c make # buildkit", "comment": "buildkit.dockerfile.v0"},
    ],
    "os": "linux",
    "rootfs": {
        "type": "layers",
        "diff_ids": [digest_of("diff 0"), digest_of("diff 1")],
        "com.example.more": 1,
    },
    "variant": "v8",
}

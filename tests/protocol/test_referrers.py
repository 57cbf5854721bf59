"""protocol.referrers: the referrers API, and the referrers tag."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.protocol.driver import (
    BEARER,
    HOME,
    drive,
    from_redirect,
    make_access,
    play,
    token_request,
    with_authorization,
    with_delay,
)

from brolga.errors import (
    BrolgaError,
    Denied,
    InvalidManifest,
    NotFound,
    ProtocolViolation,
    RegistryError,
    TransportError,
    Unauthorized,
)
from brolga.protocol import Request, Response, Retry, add_referrer, list_referrers, remove_referrer
from brolga.protocol.referrers import referrers_tag
from brolga.spec.descriptor import Descriptor
from brolga.spec.digest import Digest
from brolga.spec.index import Index
from brolga.spec.mediatypes import OCI_INDEX, OCI_MANIFEST

if TYPE_CHECKING:
    from tests.protocol.driver import Step

SUBJECT = Digest.of(b"the subject")
TAG = f"sha256-{SUBJECT.encoded}"
ROOT = f"{HOME}/v2/team/app"
API = Request("GET", f"{ROOT}/referrers/{SUBJECT}", {"Accept": OCI_INDEX})
ACCEPT = {
    "Accept": (
        "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "
        "application/vnd.docker.distribution.manifest.v2+json, "
        "application/vnd.docker.distribution.manifest.list.v2+json"
    )
}
GET = Request("GET", f"{ROOT}/manifests/{TAG}", ACCEPT)
ABSENT = Response(404)
CREATED = Response(201)
SBOM, SIGNATURE = "application/spdx+json", "application/vnd.example.signature"


def referrer(text: str, artifact_type: str = SBOM) -> Descriptor:
    """Return the descriptor of something that refers to the subject."""
    raw = text.encode()
    return Descriptor(OCI_MANIFEST, Digest.of(raw), len(raw), artifact_type=artifact_type)


A, B, C = referrer("a"), referrer("b", SIGNATURE), referrer("c")


def index(*manifests: Descriptor, **members: object) -> bytes:
    """Return an index as another client may have written it: with members of its own."""
    listed = [manifest.to_dict() for manifest in manifests]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed, **members}
    return json.dumps(document, indent=1).encode()


def stored(*manifests: Descriptor, **members: object) -> Response:
    """Return the answer that has an index."""
    return Response(200, {"content-type": OCI_INDEX}, index(*manifests, **members))


def page(*manifests: Descriptor, link: str = "") -> Response:
    """Return a page of the referrers API."""
    headers = {"content-type": OCI_INDEX} | ({"link": f'<{link}>; rel="next"'} if link else {})
    return Response(200, headers, index(*manifests))


# --- The API


def test_list_referrers_uses_api() -> None:
    """`GET /v2/<name>/referrers/<digest>` MUST return an index (Listing Referrers, end-12a)."""
    assert play(list_referrers(make_access(), SUBJECT), (API, page(A, B))) == (A, B)


def test_list_referrers_returns_empty_list() -> None:
    """If the registry supports the API, it MUST NOT return 404 for a digest without referrers."""
    assert play(list_referrers(make_access(), SUBJECT), (API, page())) == ()


def test_list_referrers_follows_link() -> None:
    """A Link header MUST be included if there are more (Listing Referrers)."""
    second = Request("GET", f"{HOME}/x?last=a", API.headers)
    third = Request("GET", f"{HOME}/x?last=b", API.headers)
    steps = (API, page(A, link="/x?last=a")), (second, page(B, link="?last=b")), (third, page(C))
    assert play(list_referrers(make_access(), SUBJECT), *steps) == (A, B, C)


@pytest.mark.parametrize(
    "link", ["https://other.example/x", "http://[::1", f"{ROOT}/referrers/{SUBJECT}", ""]
)
def test_list_referrers_rejects_page_elsewhere(link: str) -> None:
    """Bound the pages and stay on the host."""
    response = Response(200, {"link": f'<{link}>; rel="next"'}, index(A))
    play(list_referrers(make_access(), SUBJECT), (API, response), error=ProtocolViolation)


def test_list_referrers_bounds_pages() -> None:
    """Pagination without an end must not be followed for ever."""
    requests: list[Request] = []

    def answer(request: Request) -> Response:
        requests.append(request)
        return page(link=f"/x?{len(requests)}")

    with pytest.raises(ProtocolViolation, match="has no end"):
        drive(list_referrers(make_access(), SUBJECT), answer)
    assert len(requests) == 1000


@pytest.mark.parametrize("headers", [{}, {"oci-filters-applied": "artifactType"}])
def test_list_referrers_filters_artifact_type(headers: dict[str, str]) -> None:
    """Registries SHOULD filter; the client MUST expect that they do not (end-12b)."""
    query = "?artifactType=application%2Fspdx%2Bjson"
    request = Request("GET", API.url + query, API.headers)
    second = Request("GET", f"{HOME}/x", API.headers)
    steps = (request, page(A, B, link="/x")), (second, Response(200, headers, index(B, C)))
    assert play(list_referrers(make_access(), SUBJECT, SBOM), *steps) == (A, C)


def test_list_referrers_quotes_artifact_type() -> None:
    """It is a value (RFC 3986, section 2.1)."""
    request = Request("GET", f"{API.url}?artifactType=a%26b%3D%2F%3F%23", API.headers)
    assert play(list_referrers(make_access(), SUBJECT, "a&b=/?#"), (request, page(A))) == ()


def test_list_referrers_renews_token_between_pages() -> None:
    """A list is long, a token's life is short."""
    second = Request("GET", f"{HOME}/x", API.headers)
    steps = (
        (API, page(A, link="/x")),
        (second, Response(401, BEARER)),
        (token_request(), Response(200, body=b'{"token": "t1"}')),
        (with_authorization(second, "Bearer t1"), page(B)),
    )
    assert play(list_referrers(make_access(), SUBJECT), *steps) == (A, B)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(500, RegistryError), (204, ProtocolViolation)],
)
def test_list_referrers_raises_on_refusal(status: int, kind: type[BrolgaError]) -> None:
    """A refusal does not mean an empty list."""
    play(list_referrers(make_access(), SUBJECT), (API, Response(status)), error=kind)


@pytest.mark.parametrize(("status", "kind"), [(401, Unauthorized), (403, Denied)])
def test_list_referrers_reads_tag_after_401_or_403(status: int, kind: type[BrolgaError]) -> None:
    """Old Harbor responds 401 without a challenge, or 403, as it has no API.

    If the rights are missing, the tag is refused as well.
    """
    refused = Response(status)
    steps = (API, refused), (GET, stored(A))
    assert play(list_referrers(make_access(), SUBJECT), *steps) == (A,)
    play(list_referrers(make_access(), SUBJECT), (API, refused), (GET, refused), error=kind)


def test_list_referrers_raises_on_401_with_challenge() -> None:
    """A 401 with a challenge asks for credentials: it says nothing about the API."""
    token, refused = Response(200, body=b'{"token": "t1"}'), Response(401, BEARER)
    steps = (
        (API, refused),
        (token_request(), token),
        (with_authorization(API, "Bearer t1"), refused),
    )
    play(list_referrers(make_access(), SUBJECT), *steps, error=Unauthorized)


def test_list_referrers_raises_on_404_of_second_page() -> None:
    """The tag does not complete a list of the API."""
    second = Request("GET", f"{HOME}/x", API.headers)
    steps = (API, page(A, link="/x")), (second, ABSENT)
    play(list_referrers(make_access(), SUBJECT), *steps, error=NotFound)


def test_list_referrers_raises_on_404_after_empty_page() -> None:
    """An empty page is a response of the API as well."""
    second = Request("GET", f"{HOME}/x", API.headers)
    steps = (API, page(link="/x")), (second, ABSENT)
    play(list_referrers(make_access(), SUBJECT), *steps, error=NotFound)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"schemaVersion": 2}'])
def test_list_referrers_rejects_other_than_index(body: bytes) -> None:
    """A front page's 200 is not a list of referrers."""
    response = Response(200, body=body)
    match = f"^the list of referrers {API.url} is not valid: "
    play(
        list_referrers(make_access(), SUBJECT), (API, response), error=InvalidManifest, match=match
    )


def test_list_referrers_rejects_html() -> None:
    """A server that responds 200 to every URL has no referrers."""
    response = Response(200, {"content-type": "text/html; charset=utf-8"}, b"<html>")
    play(
        list_referrers(make_access(), SUBJECT),
        (API, response),
        error=ProtocolViolation,
        match=f"{API.url} is text/html: that is not an OCI registry's answer",
    )


# --- Reading the tag


@pytest.mark.parametrize("status", [303, 400, 404, 405, 406, 501])
def test_list_referrers_reads_tag_without_api(status: int) -> None:
    """If the response is 404 Not Found, the client MUST fall back to the tag schema (end-12a)."""
    steps = (API, Response(status)), (GET, stored(A, B))
    assert play(list_referrers(make_access(), SUBJECT), *steps) == (A, B)


def test_list_referrers_reads_tag_after_redirect_to_missing_page() -> None:
    """GHCR redirects with 303 to a page that does not exist."""
    away = from_redirect(Request("GET", "https://pages.example/x", API.headers))
    steps = (API, Response(303, {"location": away.url})), (away, ABSENT), (GET, stored(A))
    assert play(list_referrers(make_access(), SUBJECT), *steps) == (A,)


def test_list_referrers_returns_empty_list_without_tag() -> None:
    """Neither the API nor the tag: nothing was attached."""
    assert play(list_referrers(make_access(), SUBJECT), (API, ABSENT), (GET, ABSENT)) == ()


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_list_referrers_ignores_subject_under_tag(algorithm: str) -> None:
    """GitLab answers the tag with the image of that digest (oras-project/oras#2148).

    The children of an index do not refer to it.
    """
    for raw, kind in ((index(A, B), OCI_INDEX), (b'{"schemaVersion": 2}', OCI_MANIFEST)):
        subject = Digest.of(raw, algorithm)
        api = Request("GET", f"{ROOT}/referrers/{subject}", API.headers)
        tag = Request("GET", f"{ROOT}/manifests/{referrers_tag(subject)}", ACCEPT)
        response = Response(200, {"content-type": kind}, raw)
        assert play(list_referrers(make_access(), subject), (api, ABSENT), (tag, response)) == ()
        put, read = replace(put_call(written(C)), url=tag.url), with_delay(tag, 0.2)
        back = Response(200, body=written(C))
        play(add_referrer(make_access(), subject, C), (tag, response), (put, CREATED), (read, back))


def test_list_referrers_reads_tag_of_unknown_algorithm() -> None:
    """The bytes cannot be compared with the subject, so they are read as a list."""
    subject = Digest("blake3", "0" * 64)
    api = Request("GET", f"{ROOT}/referrers/{subject}", API.headers)
    tag = Request("GET", f"{ROOT}/manifests/{referrers_tag(subject)}", ACCEPT)
    assert play(list_referrers(make_access(), subject), (api, ABSENT), (tag, stored(A))) == (A,)


def test_list_referrers_bounds_entries() -> None:
    """No list of pages takes unbounded memory (GHSA-f36w-mj3v-6jqv)."""
    many = [referrer(str(number)) for number in range(2000)]
    requests: list[Request] = []

    def answer(request: Request) -> Response:
        requests.append(request)
        return page(*many, link=f"/x?{len(requests)}")

    with pytest.raises(ProtocolViolation, match="list of referrers has too many entries"):
        drive(list_referrers(make_access(), SUBJECT), answer)
    assert len(requests) == 51


def test_list_referrers_filters_tag() -> None:
    """The tag has all referrers, of every artifact type."""
    request = Request("GET", f"{API.url}?artifactType=application%2Fspdx%2Bjson", API.headers)
    steps = (request, ABSENT), (GET, stored(A, B, C))
    assert play(list_referrers(make_access(), SUBJECT, SBOM), *steps) == (A, C)


@pytest.mark.parametrize(
    "response", [Response(403), Response(500), TransportError("cut", reason="cut")]
)
def test_list_referrers_raises_if_tag_is_refused(response: Response | TransportError) -> None:
    """A refusal does not mean an empty list."""
    play(list_referrers(make_access(), SUBJECT), (API, ABSENT), (GET, response), error=BrolgaError)


def test_list_referrers_rejects_image_under_tag() -> None:
    """Another client's image under that name is not read as a list."""
    response = Response(200, {"content-type": OCI_MANIFEST}, b'{"schemaVersion": 2, "config": {}}')
    play(
        list_referrers(make_access(), SUBJECT),
        (API, ABSENT),
        (GET, response),
        error=InvalidManifest,
    )


@pytest.mark.parametrize(
    ("digest", "tag"),
    [
        (SUBJECT, f"sha256-{SUBJECT.encoded}"),
        (Digest.of(b"x", "sha512"), f"sha512-{Digest.of(b'x', 'sha512').encoded[:64]}"),
        (Digest("sha256+b64u", "LCa0a2j_xo-5m0U8HTBB"), "sha256-b64u-LCa0a2j_xo-5m0U8HTBB"),
        (Digest("sha256+b64", "LCa0a2jxo5m0U8HTBA=="), "sha256-b64-LCa0a2jxo5m0U8HTBA--"),
        (Digest("a" * 40, "b" * 80), f"{'a' * 32}-{'b' * 64}"),
        (
            Digest("test+algorithm+using+algorithm+separators+and+lots+of+characters", "abc"),
            "test-algorithm-using-algorithm-s-abc",
        ),
    ],
)
def test_referrers_tag_is_made_from_digest(digest: Digest, tag: str) -> None:
    """`<alg>-<ref>`, truncated to 32 and 64 characters, others than a tag's replaced by `-`.

    (Referrers Tag Schema.)
    """
    assert referrers_tag(digest) == tag


# --- Changing the tag


def put_call(raw: bytes, tag: str = TAG) -> Request:
    """Return the request that writes the tag."""
    return Request("PUT", f"{ROOT}/manifests/{tag}", {"Content-Type": OCI_INDEX}, raw)


def written(*manifests: Descriptor) -> bytes:
    """Return the index of a new tag."""
    return Index.new(manifests).raw


def test_add_referrer_creates_tag() -> None:
    """If the tag does not exist, the client MUST begin with an empty index (Pushing Manifests)."""
    raw = written(A)
    steps = (GET, ABSENT), (put_call(raw), CREATED), (again(1), Response(200, body=raw))
    play(add_referrer(make_access(), SUBJECT, A), *steps)
    assert Index.parse(raw).manifests == (A,)


def test_add_referrer_keeps_other_members() -> None:
    """The descriptor is appended; other members of the index are another client's."""
    before = index(A, annotations={"org.example": "kept"}, extra=[1])
    after = add_to(before, B)
    steps = (
        (GET, Response(200, body=before)),
        (put_call(after), CREATED),
        (again(1), Response(200, body=after)),
    )
    play(add_referrer(make_access(), SUBJECT, B), *steps)
    document = json.loads(after)
    assert (document["extra"], document["annotations"]) == ([1], {"org.example": "kept"})
    assert Index.parse(after).manifests == (A, B)


def test_add_referrer_does_nothing_if_listed() -> None:
    """If the manifest is listed already, nothing is written (Pushing Manifests with Subject)."""
    play(add_referrer(make_access(), SUBJECT, A), (GET, stored(B, A)))
    same = Descriptor(OCI_MANIFEST, A.digest, A.size, {"another": "annotation"})
    play(add_referrer(make_access(), SUBJECT, same), (GET, stored(B, A)))


def add_to(raw: bytes, *members: Descriptor) -> bytes:
    """Return an index with more in it."""
    before = Index.parse(raw)
    return before.replace(manifests=[*before.manifests, *members]).raw


def test_add_referrer_repeats_overwritten_write() -> None:
    """Nothing locks the tag: another client's write may overwrite ours."""
    ours, theirs = written(A), written(B)
    both = add_to(theirs, A)
    play(
        add_referrer(make_access(), SUBJECT, A),
        (GET, ABSENT),
        (put_call(ours), CREATED),
        (again(1), Response(200, body=theirs)),
        (put_call(both), CREATED),
        (again(2), Response(200, body=both)),
    )
    assert Index.parse(both).manifests == (B, A)


def test_add_referrer_accepts_later_write_of_other_client() -> None:
    """What counts is that ours is there."""
    ours = written(A)
    read_back = Response(200, body=add_to(ours, C))
    steps = (GET, ABSENT), (put_call(ours), CREATED), (again(1), read_back)
    play(add_referrer(make_access(), SUBJECT, A), *steps)


def test_add_referrer_writes_ten_times() -> None:
    """Ten writes, each read again after a longer delay."""
    ours = written(A)
    steps = lost(ABSENT, ours)
    play(add_referrer(make_access(), SUBJECT, A), *steps, (again(10), Response(200, body=ours)))
    assert [request.delay_s for request, _ in steps[::2]] == pytest.approx(
        [0.0, 0.2, 0.4, 0.6, 0.8, *5 * [1.0]]
    )


def lost(before: Response, raw: bytes) -> list[Step]:
    """Return ten writes, of which none is there afterwards."""
    return [step for n in range(10) for step in ((again(n), before), (put_call(raw), CREATED))]


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_add_referrer_delays_with_jitter(chance: float) -> None:
    """Without jitter, concurrent clients would all write at once again."""
    raw = written(A)
    access = make_access(retry=Retry(attempts=1, jitter=lambda: chance))
    read = with_delay(GET, 0.2 * (0.5 + chance))
    steps = (GET, ABSENT), (put_call(raw), CREATED), (read, Response(200, body=raw))
    play(add_referrer(access, SUBJECT, A), *steps)


def again(attempt: int) -> Request:
    """Return the request that reads the tag again after so many writes."""
    return with_delay(GET, min(0.2 * attempt, 1.0))


def test_add_referrer_raises_if_tag_keeps_nothing() -> None:
    """Attempts are bounded: after ten writes the error says what is wrong."""
    play(
        add_referrer(make_access(), SUBJECT, A),
        *lost(ABSENT, written(A)),
        (again(10), ABSENT),
        error=ProtocolViolation,
        match=f"the tag {TAG} does not keep what is written to it",
    )


def test_add_referrer_raises_if_tag_is_immutable() -> None:
    """Some registries have immutable tags: that is their own error."""
    steps = (GET, stored(B)), (put_call(add_to(index(B), A)), Response(409))
    play(add_referrer(make_access(), SUBJECT, A), *steps, error=RegistryError, match="409")


# --- Removed


def test_remove_referrer_removes_entry() -> None:
    """The client MUST remove it from the referrers tag (Deleting Manifests)."""
    before = index(A, B)
    after = Index.parse(before).replace(manifests=[B]).raw
    steps = (
        (GET, Response(200, body=before)),
        (put_call(after), CREATED),
        (again(1), Response(200, body=after)),
    )
    play(remove_referrer(make_access(), SUBJECT, A.digest), *steps)


def test_remove_referrer_leaves_empty_index() -> None:
    """An index without manifests is valid; a client that may write may not be allowed to delete."""
    before = index(A)
    after = Index.parse(before).replace(manifests=[]).raw
    steps = (GET, Response(200, body=before)), (put_call(after), CREATED)
    play(
        remove_referrer(make_access(), SUBJECT, A.digest),
        *steps,
        (again(1), Response(200, body=after)),
    )
    assert json.loads(after)["manifests"] == []


@pytest.mark.parametrize("response", [ABSENT, stored(), stored(B, C)])
def test_remove_referrer_does_nothing_if_not_listed(response: Response) -> None:
    """Nothing is written if nothing changes."""
    play(remove_referrer(make_access(), SUBJECT, A.digest), (GET, response))


def test_remove_referrer_repeats_overwritten_write() -> None:
    """The same check of the write, and the same bound."""
    after = Index.parse(index(A)).replace(manifests=[]).raw
    steps, access = lost(stored(A), after), make_access()
    twice = *steps[:4], (again(2), Response(200, body=after))
    play(remove_referrer(access, SUBJECT, A.digest), *twice)
    flow = remove_referrer(access, SUBJECT, A.digest)
    last = again(10), stored(A)
    play(flow, *steps, last, error=ProtocolViolation, match="does not keep")

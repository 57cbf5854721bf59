"""wire/referrers.py: the referrers API, and the tag that stands in for it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.protocol.scripted import (
    BEARER,
    HOME,
    access,
    authorized,
    drive,
    elsewhere,
    later,
    play,
    token_call,
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
    from tests.protocol.scripted import Step

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


def index(*manifests: Descriptor, **more: object) -> bytes:
    """Return an index as another client may have written it: with members of its own."""
    listed = [manifest.to_dict() for manifest in manifests]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed, **more}
    return json.dumps(document, indent=1).encode()


def stored(*manifests: Descriptor, **more: object) -> Response:
    """Return the answer that has an index."""
    return Response(200, {"content-type": OCI_INDEX}, index(*manifests, **more))


def page(*manifests: Descriptor, link: str = "") -> Response:
    """Return a page of the referrers API."""
    headers = {"content-type": OCI_INDEX} | ({"link": f'<{link}>; rel="next"'} if link else {})
    return Response(200, headers, index(*manifests))


# --- The API


def test_referrers_are_the_apis() -> None:
    """`GET /v2/<name>/referrers/<digest>` MUST return an index (Listing Referrers, end-12a)."""
    assert play(list_referrers(access(), SUBJECT), (API, page(A, B))) == (A, B)


def test_no_referrers_are_an_empty_list() -> None:
    """If the registry supports the API, it MUST NOT return 404 for a digest without referrers."""
    assert play(list_referrers(access(), SUBJECT), (API, page())) == ()


def test_referrers_are_paged() -> None:
    """A Link header MUST be included where there are more (Listing Referrers)."""
    second = Request("GET", f"{HOME}/x?last=a", API.headers)
    third = Request("GET", f"{HOME}/x?last=b", API.headers)
    steps = (API, page(A, link="/x?last=a")), (second, page(B, link="?last=b")), (third, page(C))
    assert play(list_referrers(access(), SUBJECT), *steps) == (A, B, C)


@pytest.mark.parametrize(
    "link", ["https://other.example/x", "http://[::1", f"{ROOT}/referrers/{SUBJECT}", ""]
)
def test_a_page_elsewhere_is_a_violation(link: str) -> None:
    """Bound the pages and stay on the host."""
    response = Response(200, {"link": f'<{link}>; rel="next"'}, index(A))
    play(list_referrers(access(), SUBJECT), (API, response), error=ProtocolViolation)


def test_a_list_without_an_end_is_a_violation() -> None:
    """Pagination without an end must not be followed for ever."""
    requests: list[Request] = []

    def answer(request: Request) -> Response:
        requests.append(request)
        return page(link=f"/x?{len(requests)}")

    with pytest.raises(ProtocolViolation, match="has no end"):
        drive(list_referrers(access(), SUBJECT), answer)
    assert len(requests) == 1000


@pytest.mark.parametrize("headers", [{}, {"oci-filters-applied": "artifactType"}])
def test_one_artifact_type_is_filtered_here_as_well(headers: dict[str, str]) -> None:
    """Registries SHOULD filter; the client MUST expect that they do not (end-12b)."""
    query = "?artifactType=application%2Fspdx%2Bjson"
    asked = Request("GET", API.url + query, API.headers)
    second = Request("GET", f"{HOME}/x", API.headers)
    steps = (asked, page(A, B, link="/x")), (second, Response(200, headers, index(B, C)))
    assert play(list_referrers(access(), SUBJECT, SBOM), *steps) == (A, C)


def test_an_artifact_type_cannot_add_to_the_query() -> None:
    """It is a value (RFC 3986, section 2.1)."""
    asked = Request("GET", f"{API.url}?artifactType=a%26b%3D%2F%3F%23", API.headers)
    assert play(list_referrers(access(), SUBJECT, "a&b=/?#"), (asked, page(A))) == ()


def test_a_token_is_renewed_between_pages() -> None:
    """A list is long, a token's life is short."""
    second = Request("GET", f"{HOME}/x", API.headers)
    steps = (
        (API, page(A, link="/x")),
        (second, Response(401, BEARER)),
        (token_call(), Response(200, body=b'{"token": "t1"}')),
        (authorized(second, "Bearer t1"), page(B)),
    )
    assert play(list_referrers(access(), SUBJECT), *steps) == (A, B)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(500, RegistryError), (204, ProtocolViolation)],
)
def test_a_refusal_is_itself(status: int, kind: type[BrolgaError]) -> None:
    """No answer is no empty list."""
    play(list_referrers(access(), SUBJECT), (API, Response(status)), error=kind)


@pytest.mark.parametrize(("status", "kind"), [(401, Unauthorized), (403, Denied)])
def test_who_may_not_look_is_told_so_by_the_tag(status: int, kind: type[BrolgaError]) -> None:
    """Old Harbor answers 401 without a challenge, or 403, for the API that it does not have.

    Who really may not look gets no empty list.
    """
    refused = Response(status)
    steps = (API, refused), (GET, stored(A))
    assert play(list_referrers(access(), SUBJECT), *steps) == (A,)
    play(list_referrers(access(), SUBJECT), (API, refused), (GET, refused), error=kind)


def test_credentials_that_do_not_do_are_told() -> None:
    """A 401 with a challenge asks who calls: it says nothing of the API."""
    token, refused = Response(200, body=b'{"token": "t1"}'), Response(401, BEARER)
    steps = (API, refused), (token_call(), token), (authorized(API, "Bearer t1"), refused)
    play(list_referrers(access(), SUBJECT), *steps, error=Unauthorized)


def test_a_page_that_is_gone_is_an_error() -> None:
    """What the API began, no tag completes."""
    second = Request("GET", f"{HOME}/x", API.headers)
    steps = (API, page(A, link="/x")), (second, ABSENT)
    play(list_referrers(access(), SUBJECT), *steps, error=NotFound)


def test_a_page_that_is_gone_is_an_error_after_an_empty_one() -> None:
    """An empty page is an answer of the API as well."""
    second = Request("GET", f"{HOME}/x", API.headers)
    steps = (API, page(link="/x")), (second, ABSENT)
    play(list_referrers(access(), SUBJECT), *steps, error=NotFound)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"schemaVersion": 2}'])
def test_what_is_no_index_is_an_error(body: bytes) -> None:
    """A front page's 200 is no list of referrers."""
    response = Response(200, body=body)
    match = f"^the list of referrers {API.url} is not valid: "
    play(list_referrers(access(), SUBJECT), (API, response), error=InvalidManifest, match=match)


def test_a_page_is_no_list() -> None:
    """A server that answers 200 to all has no referrers."""
    response = Response(200, {"content-type": "text/html; charset=utf-8"}, b"<html>")
    play(
        list_referrers(access(), SUBJECT),
        (API, response),
        error=ProtocolViolation,
        match=f"{API.url} is text/html: that is not an OCI registry's answer",
    )


# --- The tag, read


@pytest.mark.parametrize("status", [303, 400, 404, 405, 406, 501])
def test_without_the_api_the_tag_is_read(status: int) -> None:
    """If the response is 404 Not Found, the client MUST fall back to the tag schema (end-12a)."""
    steps = (API, Response(status)), (GET, stored(A, B))
    assert play(list_referrers(access(), SUBJECT), *steps) == (A, B)


def test_a_registry_that_sends_elsewhere_has_no_api() -> None:
    """GHCR redirects with 303 to a page, which is not there."""
    away = elsewhere(Request("GET", "https://pages.example/x", API.headers))
    steps = (API, Response(303, {"location": away.url})), (away, ABSENT), (GET, stored(A))
    assert play(list_referrers(access(), SUBJECT), *steps) == (A,)


def test_without_the_tag_there_is_no_referrer() -> None:
    """Neither the API nor the tag: nothing was attached."""
    assert play(list_referrers(access(), SUBJECT), (API, ABSENT), (GET, ABSENT)) == ()


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_the_subject_itself_is_no_list_of_referrers(algorithm: str) -> None:
    """GitLab answers the tag with the image of that digest (oras-project/oras#2148).

    The children of an index do not refer to it.
    """
    for raw, kind in ((index(A, B), OCI_INDEX), (b'{"schemaVersion": 2}', OCI_MANIFEST)):
        subject = Digest.of(raw, algorithm)
        api = Request("GET", f"{ROOT}/referrers/{subject}", API.headers)
        tag = Request("GET", f"{ROOT}/manifests/{referrers_tag(subject)}", ACCEPT)
        response = Response(200, {"content-type": kind}, raw)
        assert play(list_referrers(access(), subject), (api, ABSENT), (tag, response)) == ()
        put, read = replace(put_call(written(C)), url=tag.url), later(tag, 0.2)
        back = Response(200, body=written(C))
        play(add_referrer(access(), subject, C), (tag, response), (put, CREATED), (read, back))


def test_a_digest_that_cannot_be_computed_is_not_the_tags() -> None:
    """Nothing could be held against it: what is there is read as a list."""
    subject = Digest("blake3", "0" * 64)
    api = Request("GET", f"{ROOT}/referrers/{subject}", API.headers)
    tag = Request("GET", f"{ROOT}/manifests/{referrers_tag(subject)}", ACCEPT)
    assert play(list_referrers(access(), subject), (api, ABSENT), (tag, stored(A))) == (A,)


def test_referrers_are_bounded() -> None:
    """No list of pages takes all memory (GHSA-f36w-mj3v-6jqv)."""
    many = [referrer(str(number)) for number in range(2000)]
    requests: list[Request] = []

    def answer(request: Request) -> Response:
        requests.append(request)
        return page(*many, link=f"/x?{len(requests)}")

    with pytest.raises(ProtocolViolation, match="list of referrers has too many entries"):
        drive(list_referrers(access(), SUBJECT), answer)
    assert len(requests) == 51


def test_the_tag_is_filtered_as_well() -> None:
    """The tag holds all of them, of every artifact type."""
    asked = Request("GET", f"{API.url}?artifactType=application%2Fspdx%2Bjson", API.headers)
    steps = (asked, ABSENT), (GET, stored(A, B, C))
    assert play(list_referrers(access(), SUBJECT, SBOM), *steps) == (A, C)


@pytest.mark.parametrize(
    "reply", [Response(403), Response(500), TransportError("cut", reason="cut")]
)
def test_a_tag_that_cannot_be_read_is_an_error(response: Response | TransportError) -> None:
    """No answer is no empty list."""
    play(list_referrers(access(), SUBJECT), (API, ABSENT), (GET, response), error=BrolgaError)


def test_a_tag_that_is_no_index_is_an_error() -> None:
    """Someone's image under that name is not ours to read as a list."""
    response = Response(200, {"content-type": OCI_MANIFEST}, b'{"schemaVersion": 2, "config": {}}')
    play(list_referrers(access(), SUBJECT), (API, ABSENT), (GET, response), error=InvalidManifest)


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
def test_the_tag_is_made_from_the_digest(digest: Digest, tag: str) -> None:
    """`<alg>-<ref>`, truncated to 32 and 64 characters, others than a tag's replaced by `-`.

    (Referrers Tag Schema.)
    """
    assert referrers_tag(digest) == tag


# --- The tag, changed


def put_call(raw: bytes, tag: str = TAG) -> Request:
    """Return the call that writes the tag."""
    return Request("PUT", f"{ROOT}/manifests/{tag}", {"Content-Type": OCI_INDEX}, raw)


def written(*manifests: Descriptor) -> bytes:
    """Return the index that is written where there was none."""
    return Index.new(manifests).raw


def test_the_first_referrer_makes_the_tag() -> None:
    """If the tag does not exist, the client MUST begin with an empty index (Pushing Manifests)."""
    raw = written(A)
    steps = (GET, ABSENT), (put_call(raw), CREATED), (again(1), Response(200, body=raw))
    play(add_referrer(access(), SUBJECT, A), *steps)
    assert Index.parse(raw).manifests == (A,)


def test_a_referrer_is_appended() -> None:
    """The descriptor is appended; what else the index says is another client's, and stays."""
    before = index(A, annotations={"org.example": "kept"}, extra=[1])
    after = add_to(before, B)
    steps = (
        (GET, Response(200, body=before)),
        (put_call(after), CREATED),
        (again(1), Response(200, body=after)),
    )
    play(add_referrer(access(), SUBJECT, B), *steps)
    document = json.loads(after)
    assert (document["extra"], document["annotations"]) == ([1], {"org.example": "kept"})
    assert Index.parse(after).manifests == (A, B)


def test_a_referrer_is_appended_once() -> None:
    """If the manifest is there already, nothing is to be done (Pushing Manifests with Subject)."""
    play(add_referrer(access(), SUBJECT, A), (GET, stored(B, A)))
    same = Descriptor(OCI_MANIFEST, A.digest, A.size, {"another": "annotation"})
    play(add_referrer(access(), SUBJECT, same), (GET, stored(B, A)))


def add_to(raw: bytes, *more: Descriptor) -> bytes:
    """Return an index with more in it."""
    before = Index.parse(raw)
    return before.replace(manifests=[*before.manifests, *more]).raw


def test_a_lost_update_is_noticed_and_mended() -> None:
    """Nothing locks the tag: another client's write may take ours away."""
    ours, theirs = written(A), written(B)
    both = add_to(theirs, A)
    play(
        add_referrer(access(), SUBJECT, A),
        (GET, ABSENT),
        (put_call(ours), CREATED),
        (again(1), Response(200, body=theirs)),
        (put_call(both), CREATED),
        (again(2), Response(200, body=both)),
    )
    assert Index.parse(both).manifests == (B, A)


def test_another_clients_write_behind_ours_is_no_loss() -> None:
    """What counts is that ours is there."""
    ours = written(A)
    read_back = Response(200, body=add_to(ours, C))
    steps = (GET, ABSENT), (put_call(ours), CREATED), (again(1), read_back)
    play(add_referrer(access(), SUBJECT, A), *steps)


def test_the_last_write_may_be_the_one_that_stays() -> None:
    """Ten writes, each looked at after a longer pause."""
    ours = written(A)
    steps = lost(ABSENT, ours)
    play(add_referrer(access(), SUBJECT, A), *steps, (again(10), Response(200, body=ours)))
    assert [request.delay_s for request, _ in steps[::2]] == pytest.approx(
        [0.0, 0.2, 0.4, 0.6, 0.8, *5 * [1.0]]
    )


def lost(before: Response, raw: bytes) -> list[Step]:
    """Return ten writes, of which none is there afterwards."""
    return [step for n in range(10) for step in ((again(n), before), (put_call(raw), CREATED))]


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_those_who_write_at_once_come_apart(chance: float) -> None:
    """The pauses have jitter, or all would write at once again."""
    raw = written(A)
    way = access(retry=Retry(attempts=1, jitter=lambda: chance))
    read = later(GET, 0.2 * (0.5 + chance))
    steps = (GET, ABSENT), (put_call(raw), CREATED), (read, Response(200, body=raw))
    play(add_referrer(way, SUBJECT, A), *steps)


def again(attempt: int) -> Request:
    """Return the call that reads the tag again after so many writes."""
    return later(GET, min(0.2 * attempt, 1.0))


def test_a_tag_that_keeps_nothing_is_a_violation() -> None:
    """Attempts are bounded: after ten writes it is told what is wrong."""
    play(
        add_referrer(access(), SUBJECT, A),
        *lost(ABSENT, written(A)),
        (again(10), ABSENT),
        error=ProtocolViolation,
        match=f"the tag {TAG} does not keep what is written to it",
    )


def test_a_tag_that_must_not_change_is_told() -> None:
    """Some registries have immutable tags: that is their own error."""
    steps = (GET, stored(B)), (put_call(add_to(index(B), A)), Response(409))
    play(add_referrer(access(), SUBJECT, A), *steps, error=RegistryError, match="409")


# --- Removed


def test_a_deleted_referrer_is_taken_out() -> None:
    """The client MUST remove it from the referrers tag (Deleting Manifests)."""
    before = index(A, B)
    after = Index.parse(before).replace(manifests=[B]).raw
    steps = (
        (GET, Response(200, body=before)),
        (put_call(after), CREATED),
        (again(1), Response(200, body=after)),
    )
    play(remove_referrer(access(), SUBJECT, A.digest), *steps)


def test_the_last_one_leaves_an_empty_index() -> None:
    """An index without manifests is one too; who may write may not always delete."""
    before = index(A)
    after = Index.parse(before).replace(manifests=[]).raw
    steps = (GET, Response(200, body=before)), (put_call(after), CREATED)
    play(
        remove_referrer(access(), SUBJECT, A.digest), *steps, (again(1), Response(200, body=after))
    )
    assert json.loads(after)["manifests"] == []


@pytest.mark.parametrize("reply", [ABSENT, stored(), stored(B, C)])
def test_what_is_not_listed_is_not_removed(response: Response) -> None:
    """Nothing is written where nothing changes."""
    play(remove_referrer(access(), SUBJECT, A.digest), (GET, response))


def test_a_removal_that_was_overwritten_is_done_again() -> None:
    """The same look at what was written, and the same bound."""
    after = Index.parse(index(A)).replace(manifests=[]).raw
    steps, way = lost(stored(A), after), access()
    twice = *steps[:4], (again(2), Response(200, body=after))
    play(remove_referrer(way, SUBJECT, A.digest), *twice)
    flow = remove_referrer(way, SUBJECT, A.digest)
    last = again(10), stored(A)
    play(flow, *steps, last, error=ProtocolViolation, match="does not keep")

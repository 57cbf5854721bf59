"""The former names of `driver`, for tests that still import them from here."""

from tests.protocol.driver import (
    ACCEPTED,
    BASIC,
    BEARER,
    BLOB,
    FIRST,
    HEAD,
    HOME,
    ONCE,
    PING,
    POST,
    QUERY,
    REALM,
    REPOSITORY,
    SCOPE,
    SECOND,
    UPLOADS,
    USER,
    Answer,
    Step,
    collect,
    collect_bytes,
    collect_names,
    delete,
    drive,
    open_access,
    patch,
    play,
    put,
)
from tests.protocol.driver import KnownBody as Known
from tests.protocol.driver import from_redirect as elsewhere
from tests.protocol.driver import make_access as access
from tests.protocol.driver import token_request as token_call
from tests.protocol.driver import upload_known as uploading
from tests.protocol.driver import with_authorization as authorized
from tests.protocol.driver import with_delay as later
from tests.protocol.driver import with_joined_body as joined

__all__ = [
    "ACCEPTED",
    "BASIC",
    "BEARER",
    "BLOB",
    "FIRST",
    "HEAD",
    "HOME",
    "ONCE",
    "PING",
    "POST",
    "QUERY",
    "REALM",
    "REPOSITORY",
    "SCOPE",
    "SECOND",
    "UPLOADS",
    "USER",
    "Answer",
    "Known",
    "Step",
    "access",
    "authorized",
    "collect",
    "collect_bytes",
    "collect_names",
    "delete",
    "drive",
    "elsewhere",
    "joined",
    "later",
    "open_access",
    "patch",
    "play",
    "put",
    "token_call",
    "uploading",
]

"""The former names of `conversation`, for tests that still import them from here."""

from tests.protocol.conversation import (
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
from tests.protocol.conversation import KnownBody as Known
from tests.protocol.conversation import from_redirect as elsewhere
from tests.protocol.conversation import make_access as access
from tests.protocol.conversation import token_request as token_call
from tests.protocol.conversation import upload_known as uploading
from tests.protocol.conversation import with_authorization as authorized
from tests.protocol.conversation import with_delay as later
from tests.protocol.conversation import with_joined_body as joined

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

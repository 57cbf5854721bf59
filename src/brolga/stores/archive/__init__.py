"""Archives of images: a file read in place, a pipe read or written in one pass.

Knows the two forms that images travel in as one file: Docker's (`docker save`) and an OCI layout in
a tar. Must not know registries, nor how a push is ordered.

    file      Archive: a seekable file as a source of images
    pipe      stream_archive, stream_images: what comes down a pipe goes into a store as it comes
    writer    Writer: an image into a tar that is never gone back to
    place     a file that takes its place when it is whole
    sent      what went into a store on the way, and is not to be sent again
    contents  the files of an archive by their names
    forms     which form an archive has, and its images
    items     files that came by, on a pipe
    section   a part of a file, as a blob and as a layer
    docker    manifest.json: which files are an image
    oci       index.json: which blobs are an image
"""

from brolga.stores.archive.entries import CompressionOptions
from brolga.stores.archive.file import Archive
from brolga.stores.archive.formats import Images
from brolga.stores.archive.pipe import stream_archive, stream_images
from brolga.stores.archive.sent import Known, Nowhere
from brolga.stores.archive.writer import Writer, open_writer

__all__ = [
    "Archive",
    "CompressionOptions",
    "Images",
    "Known",
    "Nowhere",
    "Writer",
    "open_writer",
    "stream_archive",
    "stream_images",
]

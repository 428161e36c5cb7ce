"""gcp-storage-emulator as a process: `python -m tests.helpers.bucket_server PORT`.

Added are three things that Google documents and TensorStore asks for: an upload with
ifGenerationMatch is refused unless there is an object of that generation, or with 0 none; a
download tells the generation; and a list goes from startOffset to endOffset.
"""

import http.server
import json
import sys
from http import HTTPStatus

from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects

BUCKET = "bucket"

_upload, _download, _list = objects._media_upload, objects.download, objects.ls


def _upload_if_it_may(request, response, storage):
    wanted = request.query.get("ifGenerationMatch")  # It answers one request at a time.
    if wanted and wanted[0] != _generation(storage, request, request.query["name"][0]):
        response.status = HTTPStatus.PRECONDITION_FAILED
    else:
        _upload(request, response, storage)


def _download_with_generation(request, response, storage):
    response["x-goog-generation"] = _generation(storage, request, request.params["object_id"])
    _download(request, response, storage)


def _generation(storage, request, name):
    try:
        return storage.get_file_obj(request.params["bucket_name"], name)["generation"]
    except NotFound:
        return "0"


def _list_between(request, response, storage):
    _list(request, response, storage)
    start, end = (request.query.get(f"{which}Offset", [""])[0] for which in ("start", "end"))
    if response.status == HTTPStatus.OK:
        found = json.loads(response._content)
        items = [x for x in found["items"] if x["name"] >= start and (not end or x["name"] < end)]
        response.json(found | {"items": items})


if __name__ == "__main__":
    # Whom the kernel turns away as too many wait tries again after a second.
    http.server.HTTPServer.request_queue_size = 128
    objects._media_upload = _upload_if_it_may
    objects.download = _download_with_generation
    for _, methods in server.HANDLERS:
        if methods.get(server.GET) is _list:
            methods[server.GET] = _list_between
    server.create_server("127.0.0.1", int(sys.argv[1]), True, BUCKET).run()

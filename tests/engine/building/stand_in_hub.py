"""What huggingface_hub asks of the Hugging Face hub, answered by a server in this process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json
import re
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

REPOSITORY = 'tiny/kosmos'
FIRST, SECOND = '1' * 40, '2' * 40


@dataclass(frozen=True)
class Request:
    """What the server saw."""

    path: str
    range: str | None
    token: str | None


@dataclass
class Hub:
    """Content of the one repository, and how the server fails."""

    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str] = field(default_factory=lambda: {'main': FIRST})
    requests: list[Request] = field(default_factory=list)
    # The connection breaks in front of this byte of a file.
    cut: dict[str, int] = field(default_factory=dict)
    # Status and headers instead of an answer, by a part of the path.
    refusals: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)
    # What is sent in place of a file's bytes.
    wrong: dict[str, bytes] = field(default_factory=dict)
    ignores_ranges: bool = False
    change_answer: Callable[[dict[str, Any]], Any] = lambda answer: answer
    before_file: Callable[[str], None] = lambda name: None
    port: int = 0

    @property
    def files(self) -> list[str]:
        """Names of the files that were asked for, in order, without repetitions."""
        found = (re.search('/resolve/[^/]+/(.+)', one.path) for one in self.requests)
        return list(dict.fromkeys(unquote(one[1]) for one in found if one))

    @property
    def ranges(self) -> list[str]:
        return [one.range for one in self.requests if one.range is not None]

    def answer_of(self, revision: str) -> dict[str, Any] | None:
        commit = self.branches.get(revision, revision)
        if commit not in self.commits:
            return None
        files = self.commits[commit].items()
        siblings = [_sibling(name, content) for name, content in files]
        return {'id': REPOSITORY, 'sha': commit, 'siblings': siblings}


def _is_large(name: str) -> bool:
    return name.endswith(('.safetensors', '.bin', '.model'))


def _sibling(name: str, content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(f'blob {len(content)}\0'.encode() + content).hexdigest()
    listed: dict[str, Any] = {'rfilename': name, 'size': len(content), 'blobId': blob}
    if _is_large(name):
        digest = hashlib.sha256(content).hexdigest()
        listed['lfs'] = {'size': len(content), 'sha256': digest, 'pointerSize': 130}
    return listed


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:  # noqa: N802
        path = unquote(urlsplit(self.path).path)
        headers = self.headers
        self.hub.requests.append(
            Request(self.path, headers.get('Range'), headers.get('Authorization'))
        )
        for part, (status, extra) in self.hub.refusals.items():
            if part in path:
                return self._send(status, b'{}', extra)
        if found := re.fullmatch(f'/api/models/{REPOSITORY}/revision/(.+)', path):
            answer = self.hub.answer_of(found[1])
            if answer is None:
                return self._send(404, b'{}', {'X-Error-Code': 'RevisionNotFound'})
            return self._send(200, json.dumps(self.hub.change_answer(answer)).encode(), {})
        if found := re.fullmatch(f'/{REPOSITORY}/resolve/([^/]+)/(.+)', path):
            self.hub.before_file(found[2])
            if _is_large(found[2]):
                # As the hub does: to another host.
                place = f'http://localhost:{self.hub.port}/store/{found[1]}/{found[2]}'
                return self._send(302, b'', {'Location': place})
            return self._file(found[1], found[2])
        if found := re.fullmatch('/store/([^/]+)/(.+)', path):
            return self._file(found[1], found[2])
        return self._send(404, b'{}', {'X-Error-Code': 'RepoNotFound'})

    def _file(self, revision: str, name: str) -> None:
        content = self.hub.wrong.get(name, self.hub.commits[revision][name])
        start, status, headers = 0, 200, {}
        if (wanted := self.headers.get('Range')) and not self.hub.ignores_ranges:
            start, status = int(wanted.removeprefix('bytes=').removesuffix('-')), 206
            end = f'{len(content) - 1}/{len(content)}'
            headers['Content-Range'] = f'bytes {start}-{end}'
        self._send(status, content[start:], headers, self.hub.cut.get(name, len(content)) - start)

    def _send(
        self, status: int, body: bytes, headers: dict[str, str], end: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {'Content-Length': str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:end])


@contextmanager
def served(hub: Hub) -> Iterator[str]:
    """Serve a hub; its address."""
    handler = type('Handler', (_Handler,), {'hub': hub})
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        hub.port = server.server_port
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f'http://127.0.0.1:{hub.port}'
        finally:
            server.shutdown()
            thread.join()

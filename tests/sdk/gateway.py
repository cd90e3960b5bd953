"""A gateway in miniature: authorizes with Tollgate, answers as a model would, and settles with the vendor's usage.

Serves POST /v1/chat/completions and POST /v1/messages for one customer; prints its address. What Tollgate refuses goes to
the client as it is.
"""

import json
import os
import urllib.error
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLLGATE = os.environ["TOLLGATE_URL"]
KEY = os.environ["TOLLGATE_API_KEY"]
CUSTOMER = os.environ["TOLLGATE_CUSTOMER"]
MODEL = "mimo-v2-omni"

# The vendors' own shapes, made-up counts: 100 tokens in, 20 out.
OPENAI = {
    "format": "openai.chat",
    "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    "answer": lambda usage: {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL, "usage": usage,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}],
    },
}
ANTHROPIC = {
    "format": "anthropic.messages",
    "usage": {"input_tokens": 100, "output_tokens": 20},
    "answer": lambda usage: {
        "id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "usage": usage,
        "content": [{"type": "text", "text": "Hello."}], "stop_reason": "end_turn", "stop_sequence": None,
    },
}
ROUTES = {"/v1/chat/completions": OPENAI, "/v1/messages": ANTHROPIC}
calls = []


def tollgate(path, body):
    request = urllib.request.Request(
        TOLLGATE + path, json.dumps(body).encode(),
        {"authorization": f"Bearer {KEY}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()


class Gateway(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(200, json.dumps(calls).encode())

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        calls.append(self.path)
        vendor, call = ROUTES[self.path], str(uuid.uuid4())
        status, body = tollgate("/v1/authorizations", {
            "id": call, "customer": CUSTOMER, "model": MODEL, "prompt": {"input": 100}, "max_output_tokens": 50,
        })
        if status != 201:
            return self.answer(status, body)
        completion = json.dumps(vendor["answer"](vendor["usage"])).encode()
        status, body = tollgate("/v1/usage/events", {
            "source": "urn:gateway", "id": call, "customer": CUSTOMER, "model": MODEL, "authorization": call,
            "usage_format": vendor["format"], "usage": vendor["usage"],
        })
        self.answer(200 if status == 200 else status, completion if status == 200 else body)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()

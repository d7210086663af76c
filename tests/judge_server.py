"""A small OpenAI-compatible server on this machine that can do everything wrong."""

from __future__ import annotations

import json
import math
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-very-secret-0123456789"


class Server:
    """Answers by a script: `behave(number, question)` returns the name of what it does.

    Attributes:
        bodies: What was asked, parsed.
        headers: Of each request.
        times: When each came.
        most_at_once: The most requests that were open together.
    """

    def __init__(self, behave, *, answer="4", likeliest=None, slow=0.0):
        self.behave, self.answer, self.likeliest, self.slow = behave, answer, likeliest, slow
        self.bodies, self.headers, self.times = [], [], []
        self.open = self.most_at_once = 0
        self.lock = threading.Lock()
        self.released = threading.Event()
        handler = type("Handler", (_Handler,), {"mind": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_error):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def question(self, number):
        return self.bodies[number]["messages"][-1]["content"]


class _Handler(BaseHTTPRequestHandler):
    mind: Server

    def log_message(self, *_arguments):
        pass

    def do_POST(self):
        mind = self.mind
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with mind.lock:
            number = len(mind.bodies)
            mind.bodies.append(body)
            mind.headers.append(dict(self.headers))
            mind.times.append(time.monotonic())
            mind.open += 1
            mind.most_at_once = max(mind.most_at_once, mind.open)
        time.sleep(mind.slow)
        with mind.lock:  # before the reply: whoever has it may ask again at once
            mind.open -= 1
        try:
            question = body["messages"][-1]["content"]
            getattr(self, f"do_{mind.behave(number, question)}")(question)
        except (BrokenPipeError, ConnectionResetError):
            pass  # whoever asked has gone

    def reply(self, content, status=200, **headers):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def choice(self, content, likeliest=None):
        choice = {"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
        if likeliest is not None:
            top = [{"token": t, "logprob": math.log(p)} for t, p in likeliest.items()]
            choice["logprobs"] = {"content": [{"token": content, "top_logprobs": top}]}
        return choice

    def do_right(self, question):
        answer = self.mind.answer
        answer = answer(question) if callable(answer) else answer
        choice = {"index": 0, **self.choice(answer, self.mind.likeliest)}
        whole = {"id": "1", "object": "chat.completion", "created": 0, "model": "judge"}
        self.reply({**whole, "choices": [choice]})

    def do_nonsense(self, question):
        self.reply({"choices": [self.choice("As a language model I like both.")]})

    def do_nothing(self, question):
        self.reply({"choices": [{"message": {"content": None}, "finish_reason": "length"}]})

    def do_none(self, question):
        self.reply({"choices": []})

    def do_two(self, question):
        self.reply({"choices": [self.choice("4"), self.choice("5")]})

    def do_number(self, question):
        self.reply(b"4")

    def do_invalid(self, question):
        self.reply(b'{"choices": [{"mess')

    def do_deep(self, question):
        self.reply(b"[" * 200_000)

    def do_busy(self, question):
        self.reply({"error": "too many"}, 429, Retry_After="0.3")

    def do_busy_for_hours(self, question):
        self.reply({"error": "too many"}, 429, Retry_After="7200")

    def do_ill(self, question):
        self.reply({"error": "oh"}, 500)

    def do_bad_request(self, question):
        self.reply({"error": "context too long"}, 400)

    def do_refused(self, question):
        self.reply({"error": f"Incorrect key: {self.headers['Authorization']}"}, 401)

    def do_babble(self, question):  # no HTTP, and the key in it
        self.close_connection = True
        self.wfile.write(f"{self.headers['Authorization']}\r\n\r\n".encode())

    def do_lost(self, question):
        self.reply({"error": "no such model"}, 404)

    def do_elsewhere(self, question):
        self.reply(b"", 307, Location="http://127.0.0.1:9/v1/chat/completions")

    def do_hang(self, question):
        self.mind.released.wait(60)

    def do_drip_headers(self, question):
        self.send_response(200)
        self.flush_headers()
        self._drip(b"X-Still-Here: yes\r\n")

    def do_drip_body(self, question):
        self.send_response(200)
        self.end_headers()
        self._drip(b" ")

    def _drip(self, piece):
        while not self.mind.released.wait(0.02):
            self.wfile.write(piece)
            self.wfile.flush()

    def do_cut(self, question):
        self.close_connection = True
        self.connection.shutdown(2)

    def do_cut_late(self, question):
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b'{"choices"')
        self.close_connection = True

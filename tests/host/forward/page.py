"""An application for browsers: a page whose script loads data, talks over a WebSocket, sets cookies and sends a form.

Run with the machine's python3 inside of a container. What came is written to standard output, a line for each request.
"""

import base64
import hashlib
import http.server
import socketserver
import threading

PAGE = """<!doctype html><meta charset=utf-8><title>app</title><link rel=stylesheet href="/style.css"><p id=told>nothing
<script src="/script.js"></script><img src="/hold">"""
SCRIPT = """
const told = document.getElementById("told"), lines = [];
function tell(text) { lines.push(text); told.textContent = lines.join("; ") }
async function all() {
  tell((await (await fetch("data")).text()).trim());
  tell((await (await fetch("form", { method: "POST", body: "x=1" })).text()).trim());
  const socket = new WebSocket(new URL("socket", location).href.replace("http", "ws"));
  tell(await new Promise((done) => { socket.onmessage = (m) => done(m.data); socket.onopen = () => socket.send("over a socket") }));
  tell("color " + getComputedStyle(told).color);
  await fetch("jump");
  tell("cookie " + document.cookie);
  tell("end");
}
all().catch((error) => tell("failed: " + error)).finally(() => fetch("done"));
"""
ATTACK = """<!doctype html><p id=told>nothing<img src="/hold"><script>
const lines = [], target = new URLSearchParams(location.search).get("target");
async function attempt(name, action) {
  try { lines.push(name + ": " + await action()) } catch (error) { lines.push(name + ": failed") }
}
(async () => {
  await attempt("read", async () => (await fetch(target + "data")).text());
  await attempt("post", async () => (await fetch(target + "form", { method: "POST", mode: "no-cors", body: "x" })).type);
  await attempt("image", () => new Promise((done, no) => {
    const image = new Image();
    [image.onload, image.onerror, image.src] = [() => done("shown"), no, target + "style.css"];
  }));
  await attempt("socket", () => new Promise((done, no) => {
    const socket = new WebSocket(target.replace("http", "ws") + "socket");
    [socket.onopen, socket.onerror] = [() => done("open"), no];
  }));
  document.getElementById("told").textContent = lines.join("; ") + "; end";
  fetch("done");
})();
</script>"""


class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, text: str, kind: str = "text/plain", status: int = 200, **more: str) -> None:
        body = text.encode()
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **more}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        print("got", self.command, self.path, flush=True)
        match self.path.partition("?")[0]:
            case "/":
                self.answer(PAGE, "text/html", Set_Cookie="mine=1; Path=/")
            case "/script.js":
                self.answer(SCRIPT, "text/javascript")
            case "/style.css":
                self.answer("p { color: rgb(1, 2, 3) }", "text/css")
            case "/data":
                self.answer("data, with cookie " + str(self.headers["Cookie"]))
            case "/jump":
                self.answer("", status=302, Location="/landed")
            case "/attack":
                self.answer(ATTACK, "text/html")
            case "/socket":
                self.socket()
            case "/hold":
                # A page is complete when its script has said so.
                done.wait(30)
                done.clear()
                self.answer("", status=204)
            case "/done":
                done.set()
                self.answer("")
            case path:
                self.answer(f"at {path}")

    def do_POST(self) -> None:
        print("got", self.command, self.path, flush=True)
        self.answer(f"form of {len(self.rfile.read(int(self.headers['Content-Length'])))} bytes")

    def socket(self) -> None:
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        head = self.rfile.read(2)
        length = head[1] & 127
        mask, data = self.rfile.read(4), self.rfile.read(length)
        self.wfile.write(bytes([0x81, length]) + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data)))
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


done = threading.Event()
server = Server(("0.0.0.0", 8080), App)
print("listening", flush=True)
server.serve_forever()

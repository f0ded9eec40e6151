// Kiada, a small HTTP application for trying Pods: says which Pod answered, through what, and lets itself be changed.
// It speaks plain HTTP; TLS is the business of the proxy beside it in the Pod.
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const os = require("node:os");

const port = Number(process.env.PORT || 8080);
// Where the application asks others: an ambassador in the same Pod, which knows the way and the credentials.
const upstream = process.env.UPSTREAM || null;
// 127.0.0.1 where a proxy in the same Pod is the only one to be let in.
const address = process.env.LISTEN || "0.0.0.0";
const started = new Date();
let served = 0;
let healthy = true;

function facts(request) {
  return {
    application: "kiada",
    version: "0.1",
    pod: process.env.POD_NAME || os.hostname(),
    podIP: process.env.POD_IP || null,
    node: process.env.NODE_NAME || null,
    // Behind a proxy the peer is 127.0.0.1: the Pod's containers share one network.
    peer: request.socket.remoteAddress,
    client: request.headers["x-forwarded-for"] || null,
    scheme: request.headers["x-forwarded-proto"] || "http",
    served,
    uptimeSeconds: Math.round((Date.now() - started) / 1000),
  };
}

function page(told) {
  const rows = Object.entries(told)
    .map(([name, value]) => `<tr><th>${name}</th><td>${String(value).replace(/[<&]/g, (sign) => `&#${sign.charCodeAt(0)};`)}</td></tr>`)
    .join("\n");
  return `<!doctype html>
<meta charset="utf-8"><title>Kiada in ${told.pod}</title>
<style>body { font: 16px/1.5 sans-serif; margin: 3em auto; max-width: 40em } th { text-align: left; padding-right: 2em }</style>
<h1>Kiada</h1>
<p id="pod">This is Pod <b>${told.pod}</b>.</p>
<table>${rows}</table>
`;
}

const routes = {
  "GET /": (request, answer) => {
    const told = facts(request);
    if ((request.headers.accept || "").includes("text/html")) {
      answer.setHeader("Content-Type", "text/html; charset=utf-8");
      return answer.end(page(told));
    }
    answer.end(`Kiada ${told.version}: request ${told.served} to pod ${told.pod} (${told.podIP}) over ${told.scheme}\n`);
  },
  "GET /facts": (request, answer) => {
    answer.setHeader("Content-Type", "application/json");
    answer.end(JSON.stringify(facts(request)) + "\n");
  },
  "GET /healthz": (_request, answer) => {
    answer.statusCode = healthy ? 200 : 500;
    answer.end(healthy ? "ok\n" : "told to fail\n");
  },
  "GET /upstream": (request, answer) => {
    if (!upstream) {
      answer.statusCode = 404;
      return answer.end("UPSTREAM is not set: nobody to ask\n");
    }
    const failed = (error) => {
      answer.statusCode = 502;
      answer.end(`${upstream}: ${error.message}\n`);
    };
    const asking = http.get(`${upstream}/facts`, { timeout: 5000 }, async (answered) => {
      try {
        const text = (await answered.toArray()).join("");
        // A proxy in between answers, too, when it has not found the Pod yet.
        if (answered.statusCode !== 200) throw new Error(`${answered.statusCode} ${text.trim()}`);
        const told = JSON.parse(text);
        answer.end(`Pod ${facts(request).pod} asked ${upstream}, and pod ${told.pod} answered over ${told.scheme}\n`);
      } catch (error) {
        failed(error);
      }
    });
    asking.on("timeout", () => asking.destroy(new Error("no answer")));
    asking.on("error", failed);
  },
  // For trying liveness probes: from now on /healthz fails.
  "POST /fail": (_request, answer) => {
    healthy = false;
    answer.end("/healthz fails from now on\n");
  },
};

const server = http.createServer((request, answer) => {
  served += 1;
  const path = request.url.split("?")[0];
  const route = routes[`${request.method} ${path}`];
  console.log(`${request.method} ${request.url} from ${request.socket.remoteAddress}`);
  if (!route) {
    answer.statusCode = 404;
    return answer.end("nothing here; try /, /facts, /upstream, /healthz\n");
  }
  route(request, answer);
});

server.listen(port, address, () => console.log(`Kiada listens on ${address}:${port}`));

// The root process of a container has to say goodbye by itself.
process.on("SIGTERM", () => {
  console.log("Kiada ends");
  server.close(() => process.exit(0));
  server.closeAllConnections();
});

// A message of the Pod's author, from a ConfigMap, if there is one.
if (fs.existsSync("/etc/kiada/message")) {
  console.log(`Message: ${fs.readFileSync("/etc/kiada/message", "utf8").trim()}`);
}

// For init containers. `check.js greet` says who it is; `check.js network` ends well once the network can be used.
"use strict";

const fs = require("node:fs");
const net = require("node:net");
const os = require("node:os");

// The default gateway of the Pod, as the kernel has it: hexadecimal, in the machine's order of bytes.
function gateway() {
  for (const line of fs.readFileSync("/proc/net/route", "utf8").split("\n").slice(1)) {
    const [, destination, via] = line.split("\t");
    if (destination === "00000000") {
      return via.match(/../g).reverse().map((byte) => parseInt(byte, 16)).join(".");
    }
  }
  throw new Error("there is no default route");
}

// Somebody is there when the connection is made, and also when it is refused.
function reach(host, port) {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host, port, timeout: 2000 });
    socket.on("connect", () => resolve(socket.destroy()));
    socket.on("timeout", () => reject(socket.destroy() && new Error("no answer")));
    socket.on("error", (error) => (error.code === "ECONNREFUSED" ? resolve() : reject(error)));
  });
}

async function network() {
  const host = process.env.TARGET || gateway();
  for (let attempt = 1; attempt <= 20; attempt += 1) {
    try {
      await reach(host, Number(process.env.TARGET_PORT || 80));
      return console.log(`The network works: ${host} answers.`);
    } catch (error) {
      console.log(`Attempt ${attempt}: ${host}: ${error.message}`);
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
  }
  throw new Error(`${host} cannot be reached`);
}

const what = { greet: async () => console.log(`This is an init container of pod ${os.hostname()}.`), network }[process.argv[2]];
if (!what) {
  console.error("usage: check.js greet|network");
  process.exit(2);
}
what().catch((error) => {
  console.error(error.message);
  process.exit(1);
});

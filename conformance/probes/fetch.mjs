// fetch.mjs: node's https and fetch, keep-alive and streaming, against allowed.test.
import https from "node:https";
import { readFileSync } from "node:fs";

// Where TLS is opened nobody says whom to trust but the sandbox itself.
const ca = process.env.LAB_CA_FILE && readFileSync(process.env.LAB_CA_FILE);
const agent = new https.Agent({ ...(ca && { ca }), keepAlive: true });
const get = (path) =>
  new Promise((resolve, reject) => {
    const request = https.get({ host: "allowed.test", path, agent, timeout: 10000 }, (response) => {
      let size = 0;
      response.on("data", (part) => (size += part.length));
      response.on("end", () => resolve([response.statusCode, size]));
    });
    request.on("timeout", () => request.destroy(new Error("timeout")));
    request.on("error", reject);
  });

for (let turn = 0; turn < 3; turn += 1) {
  const [status, size] = await get("/bytes/1000000");
  if (status !== 200 || size !== 1000000) throw new Error(`${status} ${size}`);
}
agent.destroy();
// NODE_EXTRA_CA_CERTS makes fetch trust the lab.
const response = await fetch("https://allowed.test/from-fetch");
if (!(await response.text()).includes("/from-fetch")) throw new Error("another answer");
const plain = await fetch("http://allowed.test/redirect?to=http://second.test/end");
if (!(await plain.text()).includes("/end")) throw new Error("no redirect");

// Clients of HTTP/2 for upgrade.py, for Python's own libraries end the streams of a connection that is told to go. Keeps requests
// in flight over each of the URLs given until its standard input ends. Prints `begun`, and in the end one JSON object: what was counted, and what failed.
import http2 from "node:http2";
import fs from "node:fs";

const [authority, ...urls] = process.argv.slice(2);
const ca = fs.readFileSync(authority);
const SIDE_BY_SIDE = 8;
const counted = { answers: 0, connections: 0, failures: [] };
let isOver = false;
process.stdin.on("end", () => (isOver = true)).resume();

function connect(url) {
  counted.connections++;
  const session = http2.connect(url, { ca });
  session.isGone = false;
  session.on("goaway", () => (session.isGone = true));
  session.on("close", () => (session.isGone = true));
  session.on("error", (error) => counted.failures.push(`${url}: session: ${error}`));
  return session;
}

function ask(session, number) {
  return new Promise((resolve) => {
    const stream = session.request({ ":method": "POST", ":path": "/v1/chat/completions", "content-type": "application/json" });
    let status, text = "";
    stream.setEncoding("utf8");
    stream.on("response", (head) => (status = head[":status"]));
    stream.on("data", (more) => (text += more));
    stream.on("error", (error) => (text += `error ${error}`));
    stream.on("close", () => {
      if (status === 200 && text.endsWith("}")) counted.answers++;
      // RFC 9113 6.8: what the server has not begun, it said so, and it may be asked again.
      else if (stream.rstCode === http2.constants.NGHTTP2_REFUSED_STREAM) counted.again = (counted.again ?? 0) + 1;
      else counted.failures.push(`${status} ${stream.rstCode} ${text}`);
      resolve();
    });
    stream.end(JSON.stringify({ model: "m", messages: [{ role: "user", content: `hit ${number % 3}` }] }));
  });
}

async function keepAsking(holder) {
  for (let number = 0; !isOver; number++) {
    if (holder.session.isGone || holder.session.closed) holder.session = connect(holder.url);
    await ask(holder.session, number);
  }
}

// Once each has had an answer.
const holders = urls.map((url) => ({ url, session: connect(url) }));
await Promise.all(holders.map((holder) => ask(holder.session, 0)));
console.log("begun");
await Promise.all(holders.flatMap((holder) => Array.from({ length: SIDE_BY_SIDE }, () => keepAsking(holder))));
console.log(JSON.stringify(counted));
process.exit(0);

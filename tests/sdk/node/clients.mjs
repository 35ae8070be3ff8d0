// Clients of OpenAI's Node SDK for the gateway under test, and questions to the recording model server behind it.

import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { test } from "node:test";

// The packages live with the other build products; a bare import would look for them beside this file.
const require = createRequire(`${process.env.RINGWAY_NODE_MODULES}/package.json`);
export const { default: OpenAI } = require("openai");

const url = process.env.RINGWAY_URL;
const patienceMilliseconds = 120_000;

function connect(base, options = {}) {
  const key = { apiKey: process.env.RINGWAY_KEY, maxRetries: 0, timeout: patienceMilliseconds };
  return new OpenAI({ baseURL: `${base}/v1`, ...key, ...options });
}

/** A client for the real model. */
export const client = (options) => connect(url, options);

/** A client for the models of the recorder. */
export const recorded = (options) => connect(process.env.RINGWAY_RECORDED_URL ?? url, options);

/** A client for embeddings. */
export const embedder = () => connect(process.env.RINGWAY_EMBEDDINGS_URL ?? url);

/** A test that only a gateway can pass: without one it is not registered, so that nothing is ever skipped. */
export const gatewayTest = process.env.RINGWAY_DIRECT ? () => {} : test;

/** A word that no other test uses. */
export const newTag = () => `tag${randomUUID().replaceAll("-", "")}`;

export const user = (content) => [{ role: "user", content }];

/** A request to the real model that ends by itself (`stop`), so that its answer may be kept. */
export const sentence = (tag) => ({
  model: "smollm2",
  messages: user(`Say hello to ${tag.slice(0, 8)}.`),
  temperature: 0,
  max_tokens: 200,
  stop: [".", "!", "?", "\n", ","],
});

/** The recorder's records of the requests with this tag, once all of them have ended. */
export async function ended(tag) {
  const answer = await fetch(`${process.env.RINGWAY_RECORDER}/ended?tag=${tag}`);
  return await answer.json();
}

export async function collect(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

export const joined = (events) => events.map((event) => event.choices[0]?.delta.content ?? "").join("");

// Leaving, time-outs and errors, through the Node SDK.

import assert from "node:assert/strict";
import { test } from "node:test";
import { OpenAI, client, ended, gatewayTest, newTag, recorded, user } from "./clients.mjs";

const outcomes = async (tag) => (await ended(tag)).map((record) => record.ended);

test("leaving the loop ends the upstream request", async () => {
  const tag = newTag();
  let seen = 0;
  for await (const event of await recorded().chat.completions.create({ model: "endless", messages: user(tag), stream: true })) {
    assert.ok(event.choices);
    if (++seen === 5) break;
  }
  assert.deepEqual(await outcomes(tag), ["left"]);
});

test("an abort ends the upstream request", async () => {
  const tag = newTag();
  const stream = await recorded().chat.completions.create({ model: "endless", messages: user(tag), stream: true });
  for await (const event of stream) {
    assert.ok(event.choices);
    stream.controller.abort();
  }
  assert.deepEqual(await outcomes(tag), ["left"]);
});

test("a time-out is the SDK's own and ends the upstream request", async () => {
  const tag = newTag();
  const asked = recorded({ timeout: 1000 }).chat.completions.create({ model: "silent", messages: user(tag) });
  await assert.rejects(asked, OpenAI.APIConnectionTimeoutError);
  assert.deepEqual(await outcomes(tag), ["left"]);
});

test("what the backend refuses", async () => {
  const asked = (model) => recorded().chat.completions.create({ model, messages: user(newTag()) });
  await assert.rejects(asked("refusing"), (error) => error instanceof OpenAI.BadRequestError && error.code === "odd");
  await assert.rejects(asked("overloaded"), (error) => error instanceof OpenAI.RateLimitError && error.headers.get("retry-after") === "7");
  await assert.rejects(asked("failing"), OpenAI.InternalServerError);
});

gatewayTest("an unknown key", async () => {
  const asked = client({ apiKey: "no-such-key" }).chat.completions.create({ model: "smollm2", messages: user("x") });
  await assert.rejects(asked, (error) => error instanceof OpenAI.AuthenticationError && error.code === "invalid_api_key" && !!error.requestID);
});

gatewayTest("an unknown model", async () => {
  const asked = client().chat.completions.create({ model: "no-such-model", messages: user("x") });
  await assert.rejects(asked, (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found" && !!error.requestID);
});

gatewayTest("a bad member", async () => {
  const asked = client().chat.completions.create({ model: "smollm2", messages: user("x"), stream: "yes" });
  await assert.rejects(asked, (error) => error instanceof OpenAI.BadRequestError && error.param === "stream" && !!error.requestID);
});

gatewayTest("a stream that breaks ends with an error", async () => {
  const finishes = [];
  const read = async () => {
    const stream = await recorded().chat.completions.create({ model: "broken", messages: user(newTag()), stream: true });
    for await (const event of stream) finishes.push(...event.choices.map((choice) => choice.finish_reason).filter(Boolean));
  };
  await assert.rejects(read, (error) => error instanceof OpenAI.APIError && error.code === "backend_truncated");
  assert.deepEqual(finishes, []);
});

gatewayTest("a limit is waited for as long as the gateway says", async (context) => {
  const key = { apiKey: process.env.RINGWAY_KEY_MINUTE };
  const first = await recorded(key).chat.completions.create({ model: "steady", messages: user(newTag()) }).asResponse();
  const told = (name) => first.headers.get(`x-ratelimit-${name}-requests`);
  assert.deepEqual(["limit", "remaining", "reset"].map(told), ["1", "0", "1m2s"]);
  const [answers, waits, wait] = [[], [], globalThis.setTimeout];
  // The SDK's pauses are noted, and over at once; its time-outs stay what they are.
  context.mock.method(globalThis, "setTimeout", (then, ms, ...rest) => {
    const isPause = answers.includes(ms);
    if (isPause) waits.push(ms);
    return wait(then, isPause ? 0 : ms, ...rest);
  });
  const noting = async (...request) => {
    const answer = await fetch(...request);
    answers.push(Number(answer.headers.get("retry-after-ms")));
    return answer;
  };
  const asked = recorded({ ...key, maxRetries: 2, fetch: noting }).chat.completions.create({ model: "steady", messages: user(newTag()) });
  await assert.rejects(asked, (error) => error instanceof OpenAI.RateLimitError && error.code === "requests_per_minute_exceeded");
  // After each answer but the last.
  assert.equal(answers.length, 3);
  assert.deepEqual(waits, answers.slice(0, 2));
  assert.ok(waits.every((ms) => ms > 0 && ms <= 60_000));
});

// What every OpenAI-compatible server must do, through the Node SDK.

import assert from "node:assert/strict";
import { test } from "node:test";
import { client, collect, embedder, ended, gatewayTest, joined, newTag, recorded, sentence, user } from "./clients.mjs";

const tools = [
  {
    type: "function",
    function: {
      name: "get_weather",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    },
  },
];

test("plain", async () => {
  const answer = await client().chat.completions.create(sentence(newTag()));
  assert.ok(answer.choices[0].message.content);
  assert.equal(answer.choices[0].finish_reason, "stop");
  assert.ok(answer.usage.total_tokens > 0);
});

test("stream, with usage at its end when asked for", async () => {
  const asked = { ...sentence(newTag()), stream: true, stream_options: { include_usage: true } };
  const events = await collect(await client().chat.completions.create(asked));
  assert.ok(joined(events));
  assert.deepEqual(events.at(-1).choices, []);
  assert.ok(events.at(-1).usage.total_tokens > 0);
  assert.equal(events.at(-2).choices[0].finish_reason, "stop");
});

test("stream, without usage when not", async () => {
  const events = await collect(await client().chat.completions.create({ ...sentence(newTag()), stream: true }));
  assert.ok(events.every((event) => !event.usage && event.choices.length === 1));
});

test("tool call, whole and streamed", async () => {
  const asked = { model: "steady", messages: user(newTag()), tools };
  const whole = await recorded().chat.completions.create(asked);
  assert.equal(whole.choices[0].finish_reason, "tool_calls");
  assert.deepEqual(JSON.parse(whole.choices[0].message.tool_calls[0].function.arguments), { city: "Paris" });
  const final = await recorded().chat.completions.stream(asked).finalChatCompletion();
  assert.deepEqual(JSON.parse(final.choices[0].message.tool_calls[0].function.arguments), { city: "Paris" });
});

test("legacy completion", async () => {
  const asked = { model: "smollm2", prompt: `${newTag().slice(0, 8)} once upon`, max_tokens: 5, temperature: 0 };
  const whole = await client().completions.create(asked);
  assert.ok(whole.choices[0].text);
  const events = await collect(await client().completions.create({ ...asked, stream: true }));
  assert.equal(events.map((event) => event.choices[0]?.text ?? "").join(""), whole.choices[0].text);
});

test("embeddings", async () => {
  const answer = await embedder().embeddings.create({ model: "smollm2-embed", input: ["a ring", newTag()] });
  assert.equal(answer.data.length, 2);
  assert.ok(answer.data[0].embedding.length > 100);
});

test("models", async () => {
  const models = await collect(client().models.list());
  assert.ok(models.some((model) => model.id === "smollm2"));
});

gatewayTest("a repeated request is a hit in both forms", async () => {
  const tag = newTag();
  const asked = { model: "steady", messages: user(tag) };
  const first = await recorded().chat.completions.create(asked).withResponse();
  const second = await recorded().chat.completions.create(asked).withResponse();
  assert.deepEqual([first, second].map(({ response }) => response.headers.get("x-cache")), ["MISS", "HIT"]);
  assert.deepEqual(second.data, first.data);
  const third = await recorded().chat.completions.create({ ...asked, stream: true }).withResponse();
  assert.equal(third.response.headers.get("x-cache"), "HIT");
  assert.equal(joined(await collect(third.data)), first.data.choices[0].message.content);
  assert.equal((await ended(tag)).length, 1);
});

gatewayTest("fifty identical streams make one call", async () => {
  const tag = newTag();
  const asked = { model: "steady", messages: user(tag), stream: true };
  const one = recorded();
  const read = async () => JSON.stringify(await collect(await one.chat.completions.create(asked)));
  const answers = await Promise.all(Array.from({ length: 50 }, read));
  assert.equal(new Set(answers).size, 1);
  assert.equal((await ended(tag)).length, 1);
});

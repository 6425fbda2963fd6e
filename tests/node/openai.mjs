// The `openai` package for JavaScript as its users write it. The arguments: which of CLIENTS.
import assert from "node:assert/strict";
import OpenAI, { AzureOpenAI, toFile } from "openai";
import {
  ASK, DIE, LONG, PARAMETERS, REFUSE, SCHEMA, SITE, TOOL, TOO_LARGE, TOO_LONG, WORDS, pause, perform,
} from "./scenarios.mjs";

const { chat: model, embed, faulty } = SITE;
const keyOf = (name) => SITE.keys[name] ?? name;
const CLIENTS = {
  OpenAI: (key = "any", options = {}) => new OpenAI({ baseURL: `${SITE.url}/v1`, apiKey: keyOf(key), ...options }),
  // Its endpoint is joined as it is, so a slash at its end doubles.
  AzureOpenAI: (key = "any", options = {}) =>
    new AzureOpenAI({ endpoint: `${SITE.url}/`, apiVersion: "2024-10-21", apiKey: keyOf(key), ...options }),
};
const isAzure = (make) => make === CLIENTS.AzureOpenAI;

/** The error of exactly this class that `act` raises. */
async function raised(kind, act) {
  try {
    await act();
  } catch (error) {
    assert.equal(error.constructor, kind, error.stack);
    return error;
  }
  assert.fail(`no ${kind.name} was raised`);
}

async function textOf(stream) {
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
  return text;
}

const SCENARIOS = {
  async chat(make) {
    const answer = await make().chat.completions.create({ model, messages: ASK, temperature: 0 });
    const { prompt_tokens: prompt, completion_tokens: completion, total_tokens: total } = answer.usage;
    assert.ok(answer.choices[0].message.content && total === prompt + completion);
    assert.match(answer._request_id, /^req_/);
  },

  async stream(make) {
    const asked = { model, messages: ASK, temperature: 0 };
    const whole = await make().chat.completions.create(asked);
    const text = await textOf(await make().chat.completions.create({ ...asked, stream: true }));
    assert.equal(text, whole.choices[0].message.content);
  },

  async stream_with_usage(make) {
    const asked = { model, messages: LONG, max_tokens: 5, stream: true, stream_options: { include_usage: true } };
    let last;
    for await (const chunk of await make().chat.completions.create(asked)) last = chunk;
    assert.deepEqual([last.choices, last.usage.completion_tokens], [[], 5]);
  },

  async tools(make) {
    const answer = await make().chat.completions.create({
      model, messages: ASK, temperature: 0, max_tokens: 200, frequency_penalty: 1.5,
      tools: [{ type: "function", function: { name: TOOL, parameters: PARAMETERS } }],
      tool_choice: { type: "function", function: { name: TOOL } },
    });
    const [call] = answer.choices[0].message.tool_calls;
    assert.equal(call.function.name, TOOL);
    assert.equal(typeof JSON.parse(call.function.arguments).urgent, "boolean");
  },

  async structured_output(make) {
    const answer = await make().chat.completions.parse({
      model, messages: ASK, max_tokens: 100,
      response_format: { type: "json_schema", json_schema: { name: "allergy", schema: SCHEMA, strict: true } },
    });
    assert.ok(["mild", "severe"].includes(JSON.parse(answer.choices[0].message.content).severity));
  },

  async embeddings(make) {
    const found = await make().embeddings.create({ model: embed, input: WORDS }); // asks for base64, and decodes it
    const floats = await make().embeddings.create({ model: embed, input: WORDS, encoding_format: "float" });
    assert.equal(found.data[0].embedding.length, SITE.dimensions);
    found.data[0].embedding.forEach((x, i) => assert.ok(Math.abs(x - floats.data[0].embedding[i]) < 1e-3));
    assert.equal(found.usage.total_tokens, floats.usage.total_tokens);
    const short = await make().embeddings.create({ model: embed, input: WORDS, dimensions: 64 });
    assert.equal(short.data[2].embedding.length, 64);
  },

  async files_and_batches(make) {
    const client = isAzure(make) ? make("any", { deployment: model }) : make();
    const url = isAzure(make) ? "/chat/completions" : "/v1/chat/completions";
    const body = { model, messages: ASK, max_tokens: 5 };
    const lines = [0, 1].map((n) => JSON.stringify({ custom_id: `t-${n}`, method: "POST", url, body }));
    const file = await client.files.create({
      file: await toFile(Buffer.from(lines.join("\n")), "notes.jsonl"), purpose: "batch",
    });
    // With a deployment its Azure client POSTs to .../deployments/D/batches.
    let batch = await client.batches.create({ input_file_id: file.id, endpoint: url, completion_window: "24h" });
    for (let n = 0; n < 300 && batch.status !== "completed"; n++) {
      await pause(0.1);
      batch = await client.batches.retrieve(batch.id);
    }
    assert.equal(batch.status, "completed");
    const output = await (await client.files.content(batch.output_file_id)).text();
    assert.deepEqual(output.trim().split("\n").map((line) => JSON.parse(line).custom_id).sort(), ["t-0", "t-1"]);
    const ids = [];
    for await (const one of client.files.list({ limit: 1 })) ids.push(one.id);
    assert.ok(ids.includes(file.id) && new Set(ids).size === ids.length);
  },

  async responses(make) {
    const client = make("keeping");
    const asked = { model, input: ASK[0].content, temperature: 0 };
    const whole = await client.responses.create(asked);
    assert.equal(whole.status, "completed");
    let text = "";
    for await (const event of await client.responses.create({ ...asked, stream: true }))
      if (event.type === "response.output_text.delta") text += event.delta;
    assert.equal(text, whole.output_text);
    const more = await client.responses.create({
      model, input: "Since when?", previous_response_id: whole.id, max_output_tokens: 9,
    });
    assert.equal((await client.responses.retrieve(more.id)).previous_response_id, whole.id);
    await client.responses.delete(whole.id);
    await raised(OpenAI.NotFoundError, () => client.responses.retrieve(whole.id));
  },

  async models(make) {
    const ids = [];
    for await (const card of make().models.list()) ids.push(card.id);
    assert.ok(ids.includes(model) && ids.includes(embed));
  },

  async errors(make) {
    const ask = (key, given) =>
      make(key, { maxRetries: 0 }).chat.completions.create({ model, messages: ASK, max_tokens: 1, ...given });
    const inference = new OpenAI({
      baseURL: `${SITE.url}/models`, defaultQuery: { "api-version": "2024-05-01-preview" }, apiKey: keyOf("any"),
    });
    const cases = [
      [OpenAI.BadRequestError, 400, () => ask("any", { messages: TOO_LONG })],
      [OpenAI.AuthenticationError, 401, () => ask("wrong")],
      [OpenAI.PermissionDeniedError, 403, () => ask("elsewhere")],
      [OpenAI.NotFoundError, 404, () => ask("any", { model: "nothing" })],
      [OpenAI.APIError, 413, () => ask("any", { messages: TOO_LARGE })],
      [OpenAI.UnprocessableEntityError, 422, () => inference.chat.completions.create({ model, messages: ASK, n: 2 })],
      [OpenAI.InternalServerError, 503, () => ask("any", { model: faulty, messages: REFUSE })],
      [OpenAI.InternalServerError, 502, () => ask("any", { model: faulty, messages: DIE, max_tokens: 9 })],
    ];
    for (const [kind, status, act] of cases) {
      const error = await raised(kind, act);
      assert.equal(error.status, status);
      assert.match(error.requestID, /^req_/);
    }
    const broken = await make().chat.completions.create({ model: faulty, messages: DIE, stream: true });
    await raised(OpenAI.APIError, () => textOf(broken));
  },

  async limits(make) {
    const running = await make("single").chat.completions.create({
      model, messages: LONG, max_tokens: 1500, ignore_eos: true, stream: true,
    });
    await running[Symbol.asyncIterator]().next();
    const few = { model, messages: ASK, max_tokens: 3 };
    await raised(OpenAI.RateLimitError, () => make("single", { maxRetries: 0 }).chat.completions.create(few));
    setTimeout(() => running.controller.abort(), 500);
    assert.ok((await make("single", { maxRetries: 5 }).chat.completions.create(few)).choices.length);
    const error = await raised(OpenAI.RateLimitError, () => make("small").chat.completions.create(few));
    assert.equal(error.headers.get("x-should-retry"), "false");
  },
};

await perform(
  process.argv.slice(2).flatMap((client) =>
    Object.entries(SCENARIOS).map(([name, act]) => [`openai.js ${client} ${name}`, () => act(CLIENTS[client])]),
  ),
);

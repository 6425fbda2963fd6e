// The AI SDK with its three providers and OpenAI's Agents SDK, as their users write them. The arguments: which of CLIENTS.
import assert from "node:assert/strict";
import { createAzure } from "@ai-sdk/azure";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, run, setTracingDisabled, tool } from "@openai/agents";
import { Output, generateText, stepCountIs, streamText, tool as aiTool } from "ai";
import OpenAI from "openai";
import { z } from "zod";
import { ASK, SITE, perform } from "./scenarios.mjs";

const apiKey = SITE.keys.any;
const QUESTION = ASK[0].content;
const AGAIN = { role: "user", content: "Which medications?" };
const allergy = z.object({ allergic: z.boolean(), severity: z.enum(["mild", "severe"]) });
const urgent = z.object({ urgent: z.boolean() });
// On Responses its default is that items are kept and referred to, which is the tenant's to allow.
const few = { temperature: 0, maxOutputTokens: 100, maxRetries: 0, providerOptions: { openai: { store: false } } };
setTracingDisabled(true);

// A small model fills the arguments of a call with spaces, which its grammar allows, unless they are penalised. Where an
// SDK cannot say so, the echo engine is `caller`.
function aiSdk(model, caller = model) {
  const settings = caller === model ? { ...few, frequencyPenalty: 1.5 } : few;
  return {
    async turns() {
      const first = await generateText({ model, ...settings, messages: ASK });
      assert.ok(first.text && first.usage.outputTokens > 0);
      const again = await generateText({ model, ...settings, messages: [...ASK, ...first.response.messages, AGAIN] });
      assert.ok(again.text);
    },
    async stream() {
      let text = "";
      const { textStream } = streamText({ model, ...few, messages: ASK, onError: ({ error }) => assert.fail(error) });
      for await (const piece of textStream) text += piece;
      assert.equal(text, (await generateText({ model, ...few, messages: ASK })).text);
    },
    async tools() {
      const called = [];
      const refer = aiTool({
        description: "Refer the patient to an allergist.",
        inputSchema: urgent,
        execute: async ({ urgent }) => (called.push(urgent), "Done."),
      });
      const prepareStep = ({ stepNumber }) => ({ toolChoice: stepNumber ? "none" : "required" });
      const options = { tools: { refer }, prepareStep, stopWhen: stepCountIs(2) };
      await generateText({ model: caller, ...settings, messages: ASK, ...options });
      assert.ok(called.length && called.every((value) => typeof value === "boolean"));
    },
    async schema() {
      const { output } = await generateText({ model, ...few, messages: ASK, output: Output.object({ schema: allergy }) });
      assert.equal(typeof output.allergic, "boolean");
    },
  };
}

function agents(Model) {
  const client = new OpenAI({ baseURL: `${SITE.url}/v1`, apiKey, maxRetries: 0 });
  const [model, caller] = [SITE.chat, SITE.faulty].map((name) => new Model(client, name));
  const modelSettings = { temperature: 0, maxTokens: 100 };
  const agent = (more = {}) => new Agent({ name: "ward", instructions: "Be brief.", model, modelSettings, ...more });
  return {
    async turns() {
      const first = await run(agent(), QUESTION);
      assert.ok(first.finalOutput);
      assert.ok((await run(agent(), [...first.history, AGAIN])).finalOutput);
    },
    async stream() {
      const running = await run(agent(), QUESTION, { stream: true });
      let text = "";
      for await (const piece of running.toTextStream()) text += piece;
      await running.completed;
      assert.equal(text, running.finalOutput);
    },
    async tools() {
      const called = [];
      const refer = tool({
        name: "refer_to_allergist",
        description: "Refer the patient to an allergist.",
        parameters: urgent,
        execute: async ({ urgent }) => (called.push(urgent), "Done."),
      });
      const wanted = { ...modelSettings, toolChoice: "required" };
      const who = agent({ model: caller, tools: [refer], modelSettings: wanted, toolUseBehavior: "stop_on_first_tool" });
      assert.equal((await run(who, QUESTION)).finalOutput, "Done.");
      assert.equal(typeof called[0], "boolean");
    },
    async schema() {
      assert.equal(typeof (await run(agent({ outputType: allergy }), QUESTION)).finalOutput.allergic, "boolean");
    },
  };
}

const AZURE = { baseURL: `${SITE.url}/openai`, apiKey, apiVersion: "2024-10-21", useDeploymentBasedUrls: true };
const openai = () => createOpenAI({ baseURL: `${SITE.url}/v1`, apiKey });
const CLIENTS = {
  "AI SDK openai": () => aiSdk(openai()(SITE.chat), openai()(SITE.faulty)), // on Responses, its default
  "AI SDK openai.chat": () => aiSdk(openai().chat(SITE.chat)),
  "AI SDK azure": () => aiSdk(createAzure(AZURE).chat(SITE.chat)),
  "AI SDK compatible": () =>
    aiSdk(createOpenAICompatible({ name: "ward", baseURL: `${SITE.url}/v1`, apiKey, supportsStructuredOutputs: true })(SITE.chat)),
  "Agents on Chat Completions": () => agents(OpenAIChatCompletionsModel),
  "Agents on Responses": () => agents(OpenAIResponsesModel),
};

await perform(
  process.argv.slice(2).flatMap((client) =>
    Object.entries(CLIENTS[client]()).map(([name, act]) => [`frameworks.js ${client} ${name}`, act]),
  ),
);

// One request as code for each SDK. Python's and JavaScript's texts in quotes are JSON's, so what a user typed cannot
// leave them; the shell has its own quotes.

export const PLACEHOLDER = "YOUR_KEY";
const AZURE_VERSION = "2024-10-21";

/** request: {base, model, messages, temperature, max_tokens, stop}; the last three may be missing. */
export const SNIPPETS = [
  ["openai", "Python: openai", (r) => `\
from openai import OpenAI

client = OpenAI(base_url=${quoted(`${r.base}/v1`)}, api_key="${PLACEHOLDER}")
${pythonStream(r)}`],
  ["azure-openai", "Python: AzureOpenAI", (r) => `\
from openai import AzureOpenAI

client = AzureOpenAI(azure_endpoint=${quoted(r.base)}, api_key="${PLACEHOLDER}", api_version="${AZURE_VERSION}")
${pythonStream(r)}`],
  ["azure-ai-inference", "Python: azure-ai-inference", (r) => `\
from azure.ai.inference import ChatCompletionsClient
from azure.core.credentials import AzureKeyCredential

client = ChatCompletionsClient(${quoted(`${r.base}/models`)}, AzureKeyCredential("${PLACEHOLDER}"))
stream = client.complete(
    model=${quoted(r.model)},
    messages=${pythonMessages(r)},
${pythonOptions(r)}    stream=True,
)
for update in stream:
    if update.choices:
        print(update.choices[0].delta.content or "", end="", flush=True)
`],
  ["langchain", "Python: LangChain", (r) => `\
from langchain_openai import ChatOpenAI

model = ChatOpenAI(
    base_url=${quoted(`${r.base}/v1`)},
    api_key="${PLACEHOLDER}",
    model=${quoted(r.model)},
${pythonOptions({ ...r, stop: undefined })})
messages = ${pythonMessages(r, "")}
for chunk in model.stream(messages${r.stop ? `, stop=${quoted(r.stop)}` : ""}):
    print(chunk.content, end="", flush=True)
`],
  ["javascript", "JavaScript: openai", (r) => `\
import OpenAI from "openai";

const client = new OpenAI({ baseURL: ${quoted(`${r.base}/v1`)}, apiKey: "${PLACEHOLDER}" });
const stream = await client.chat.completions.create(${JSON.stringify(bodyOf(r), null, 2)});
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
`],
  ["curl", "curl", (r) => `\
curl -N ${shell(`${r.base}/v1/chat/completions`)} \\
  -H 'Authorization: Bearer ${PLACEHOLDER}' \\
  -H 'Content-Type: application/json' \\
  -d ${shell(JSON.stringify(bodyOf(r), null, 2))}
`],
];

export function bodyOf({ model, messages, temperature, max_tokens, stop }) {
  return { model, messages, temperature, max_tokens, stop, stream: true };
}

function pythonStream(r) {
  return `\
stream = client.chat.completions.create(
    model=${quoted(r.model)},
    messages=${pythonMessages(r)},
${pythonOptions(r)}    stream=True,
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
`;
}

function pythonMessages(r, indent = "    ") {
  const lines = r.messages.map((m) => `${indent}    {"role": "${m.role}", "content": ${quoted(m.content)}},\n`);
  return `[\n${lines.join("")}${indent}]`;
}

function pythonOptions(r) {
  return ["temperature", "max_tokens", "stop"]
    .filter((name) => r[name] !== undefined)
    .map((name) => `    ${name}=${quoted(r[name])},\n`)
    .join("");
}

function quoted(value) {
  return JSON.stringify(value);
}

function shell(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

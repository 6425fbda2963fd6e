// The key and all that is asked with it.

/** Why something did not work: message in words, code, status, requestId, retryAfter in seconds, body as it came. */
export class Failure extends Error {
  constructor(message, facts = {}) {
    super(message);
    Object.assign(this, { code: "", status: 0, requestId: "", retryAfter: 0, body: null }, facts);
  }
}

/** Somebody signed in. The key is in this object and nowhere else: not in storage, which every page of this address
 * could read, /docs with its scripts from elsewhere included. Whoever reloads signs in again. */
export class Session {
  #key;

  constructor(key, onEnd) {
    this.#key = key;
    this.onEnd = onEnd;
    this.me = null;
    /** The x-ratelimit headers of the last answer that had any. */
    this.rates = null;
  }

  async start() {
    this.me = await this.get("admin/v1/me");
    return this;
  }

  end(reason = "") {
    this.#key = "";
    this.onEnd(reason);
  }

  has(...roles) {
    return roles.some((role) => this.me.roles.includes(role));
  }

  get isSystem() {
    return this.me.tenant === "system";
  }

  get(path, query = {}) {
    const given = Object.entries(query).filter(([, value]) => value);
    return this.#json("GET", given.length ? `${path}?${new URLSearchParams(given)}` : path);
  }

  post(path, body = {}) {
    return this.#json("POST", path, body);
  }

  /** Every item of a list, page after page; at most `most`. */
  async all(path, query = {}, most = 5000) {
    const items = [];
    let page = { has_more: true };
    while (page.has_more && items.length < most) {
      page = await this.get(path, { ...query, limit: 500, after: page.last_id });
      items.push(...page.data);
    }
    return items;
  }

  /** The response, once its status is good; else a Failure. */
  async open(method, path, body, signal) {
    let response;
    try {
      response = await fetch(new URL(path, document.baseURI), {
        method, signal, credentials: "omit", cache: "no-store", redirect: "error", referrerPolicy: "no-referrer",
        headers: { authorization: `Bearer ${this.#key}`, ...(body && { "content-type": "application/json" }) },
        body: body && JSON.stringify(body),
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Failure("The server does not answer. Is it running, and is the network there?", { code: "no_answer" });
    }
    this.#note(response.headers);
    if (response.ok) return response;
    const failure = await failureOf(response);
    if (failure.status === 401 && this.me && this.#key) this.end("The key is no longer valid.");
    throw failure;
  }

  async #json(method, path, body) {
    const response = await this.open(method, path, body);
    return response.json();
  }

  #note(headers) {
    const of = (kind) => {
      const limit = headers.get(`x-ratelimit-limit-${kind}`);
      return limit && {
        limit: Number(limit),
        left: Number(headers.get(`x-ratelimit-remaining-${kind}`)),
        reset: headers.get(`x-ratelimit-reset-${kind}`),
      };
    };
    const rates = { requests: of("requests"), tokens: of("tokens"), at: new Date() };
    if (rates.requests || rates.tokens) this.rates = rates;
  }
}

async function failureOf(response) {
  const body = await response.json().catch(() => ({}));
  const error = body.error ?? {};
  return new Failure(error.message ?? `The server answered ${response.status}.`, {
    code: error.code ?? "",
    status: response.status,
    requestId: response.headers.get("x-request-id") ?? "",
    retryAfter: Number(response.headers.get("retry-after") ?? 0),
    body,
  });
}

/** The events of a stream as they come, up to [DONE]. An error event, or an end without [DONE], is a Failure. */
export async function* eventsOf(response) {
  const requestId = response.headers.get("x-request-id") ?? "";
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read().catch((error) => {
        if (error.name === "AbortError") throw error;
        return { done: true };
      });
      if (done) break;
      const parts = (rest + value).split(/\r?\n\r?\n/);
      rest = parts.pop();
      for (const part of parts) {
        const data = part.split(/\r?\n/).filter((l) => l.startsWith("data:")).map((l) => l.slice(5).trim()).join("\n");
        if (data === "[DONE]") return;
        if (!data) continue;
        const event = JSON.parse(data);
        if (event.error) throw new Failure(event.error.message, { code: event.error.code, requestId, body: event });
        yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
  throw new Failure("The connection broke before the answer was complete.", { code: "broke_off", requestId });
}

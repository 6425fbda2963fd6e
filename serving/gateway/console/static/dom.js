// Elements without HTML: what is text stays text. The page's policy (Trusted Types) forbids the other way.

const SVG = "http://www.w3.org/2000/svg";

/** h("button", {class: "quiet", onclick: act}, "Copy"): an element. null, false and undefined are left out. */
export function h(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

/** The same for SVG. */
export function s(tag, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), properties, children);
}

function filled(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === false || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== false && child !== undefined));
  return element;
}

let ids = 0;

/** A labelled control; hint: a few words below it. */
export function field(label, control, hint = null) {
  control.id ||= `f${++ids}`;
  const words = hint && h("small", { id: `${control.id}-hint` }, hint);
  if (words) control.setAttribute("aria-describedby", words.id);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, words);
}

/** A control for what may be about patients: no spell checker of a browser's maker, no history, no translation. */
export function area(properties = {}) {
  return h("textarea", {
    autocomplete: "off", autocapitalize: "off", autocorrect: "off", spellcheck: "false", translate: "no",
    "data-gramm": "false", ...properties,
  });
}

export function options(entries, chosen) {
  return entries.map(([value, label]) => h("option", { value, selected: value === chosen }, label));
}

/** A modal dialog, gone from the page when it closes. body: given the function that closes it. */
export function dialog(title, body) {
  const id = `f${++ids}`;
  const box = h("dialog", { "aria-labelledby": id });
  const close = () => {
    box.close();
    box.remove(); // at once: its event comes later, and what was shown may be a key
  };
  box.append(h("h2", { id }, title), ...[body(close)].flat());
  box.addEventListener("close", () => box.remove()); // by Escape
  document.body.append(box);
  box.showModal();
  return box;
}

/** Copies text; says so on the button itself. */
export function copyButton(text, label = "Copy") {
  const button = h("button", { type: "button", class: "quiet" }, label);
  button.addEventListener("click", async () => {
    button.textContent = (await copied(text())) ? "Copied" : "Select it and copy by hand";
    setTimeout(() => { button.textContent = label; }, 2000);
  });
  return button;
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text); // absent over plain HTTP, refused by some policies
    return true;
  } catch {
    return false;
  }
}

/** A failure in words, with what support will ask for. */
export function problem(failure, ...actions) {
  return h("div", { class: "problem", role: "alert" },
    h("p", {}, failure.message),
    h("p", { class: "facts" },
      failure.code && h("span", {}, failure.code),
      failure.retryAfter > 0 && h("span", {}, `try again in ${failure.retryAfter} s`),
      failure.requestId && h("span", {}, "request ", h("code", {}, failure.requestId))),
    actions.length > 0 && h("p", {}, actions));
}

export function number(value) {
  return value.toLocaleString("en");
}

/** 2026-11-25 16:20, in the reader's time zone. */
export function time(text) {
  if (!text) return "never";
  const at = new Date(text);
  const two = (part) => String(part).padStart(2, "0");
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return h("time", { datetime: text, title: text }, `${day} ${two(at.getHours())}:${two(at.getMinutes())}`);
}

// What a model wrote, with a little of Markdown's formatting, as nodes. Links and images stay text: nothing that a
// model says can be followed or loads anything.

import { h } from "./dom.js";

const FENCE = /^\s*```/;
const ITEM = /^\s*(?:[-*•]|(\d+)[.)])\s+(.*)$/;
const HEADING = /^#{1,6}\s+(.*)$/;

/** Blocks: paragraphs, headings, lists, fenced code. */
export function prose(text) {
  const lines = text.split("\n");
  const blocks = [];
  while (lines.length > 0) {
    if (FENCE.test(lines[0])) blocks.push(code(lines));
    else if (ITEM.test(lines[0])) blocks.push(list(lines));
    else if (HEADING.test(lines[0])) blocks.push(h("p", { class: "heading" }, inline(HEADING.exec(lines.shift())[1])));
    else if (lines[0].trim() === "") lines.shift();
    else blocks.push(paragraph(lines));
  }
  return blocks;
}

function code(lines) {
  lines.shift();
  const inside = [];
  while (lines.length > 0 && !FENCE.test(lines[0])) inside.push(lines.shift());
  lines.shift();
  return h("pre", { tabindex: "0" }, h("code", {}, inside.join("\n")));
}

function list(lines) {
  const first = ITEM.exec(lines[0])[1];
  const items = [];
  while (lines.length > 0 && ITEM.test(lines[0])) items.push(h("li", {}, inline(ITEM.exec(lines.shift())[2])));
  return first === undefined ? h("ul", {}, items) : h("ol", { start: first }, items);
}

function paragraph(lines) {
  const inside = [];
  const ends = (line) => line.trim() === "" || FENCE.test(line) || ITEM.test(line) || HEADING.test(line);
  do inside.push(lines.shift()); while (lines.length > 0 && !ends(lines[0]));
  return h("p", {}, inline(inside.join("\n")));
}

/** `code`, **strong** and *emphasis*; anything unfinished stays as it is. */
function inline(text) {
  return text.split(/(`[^`\n]+`|\*\*[^*\n]+\*\*|\*[^*\s][^*\n]*\*)/).map((part, at) => {
    if (at % 2 === 0) return part;
    if (part.startsWith("`")) return h("code", {}, part.slice(1, -1));
    return part.startsWith("**") ? h("strong", {}, part.slice(2, -2)) : h("em", {}, part.slice(1, -1));
  });
}

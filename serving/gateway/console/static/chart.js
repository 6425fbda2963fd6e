// Stacked bars by day, drawn as SVG.

import { h, number, s } from "./dom.js";

const HEIGHT = 240;
const LEFT = 62;
const BOTTOM = 24;
const COLOURS = 7;

/** days: ["2026-11-01", ...]; series: [{name, values: [one of each day]}], the largest first. unit: in words. */
export function bars(days, series, unit, shown = number) {
  const sums = days.map((_, at) => series.reduce((sum, one) => sum + one.values[at], 0));
  const top = ceiling(Math.max(...sums, 1));
  const y = (value) => (HEIGHT - BOTTOM) * (1 - value / top) + 6;
  const width = matchMedia("(min-width: 900px)").matches ? 860 : 420; // letters keep their size on a phone
  const step = (width - LEFT) / days.length;
  const total = sums.reduce((sum, value) => sum + value, 0);
  const picture = s("svg", {
    viewBox: `0 0 ${width} ${HEIGHT + 8}`, class: "chart", role: "img",
    "aria-label": `${shown(total)} ${unit} from ${days[0]} to ${days.at(-1)}. The table below has the same numbers.`,
  });
  for (const part of [0, 0.25, 0.5, 0.75, 1]) {
    const at = y(part * top);
    picture.append(
      s("line", { x1: LEFT, x2: width, y1: at, y2: at, class: part ? "grid" : "axis" }),
      s("text", { x: LEFT - 8, y: at + 4, "text-anchor": "end" }, short(part * top)));
  }
  days.forEach((day, at) => {
    let below = 0;
    const x = LEFT + at * step + step * 0.14;
    series.forEach((one, index) => {
      const value = one.values[at];
      if (value === 0) return;
      const [from, to] = [y(below), y(below + value)];
      const bar = s("rect", { x, y: to, width: step * 0.72, height: Math.max(from - to, 0.5), class: colour(index) });
      bar.append(s("title", {}, `${day}, ${one.name}: ${shown(value)} ${unit}`));
      picture.append(bar);
      below += value;
    });
    if (at % Math.ceil(days.length / (width / 86)) === 0) {
      picture.append(s("text", { x: x + step * 0.36, y: HEIGHT + 4, "text-anchor": "middle" }, day.slice(5)));
    }
  });
  return picture;
}

export function legend(series) {
  return h("ul", { class: "legend" },
    series.map((one, index) => h("li", {}, h("span", { class: `swatch ${colour(index)}` }), one.name)));
}

function colour(index) {
  return `c${index % COLOURS}`;
}

/** The next of 1, 2, 2.5, 5, 10, ... */
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= value);
}

function short(value) {
  return value.toLocaleString("en", { notation: "compact", maximumFractionDigits: 2 });
}

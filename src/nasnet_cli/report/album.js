"use strict";
// The images of the report, and which of them the filters leave.

const NOT_SURE = "not sure";
const QUERY = 1, LABEL = 2, KIND = 4, LEAST = 8, STATUS = 16;
const LARGEST_CACHE = 40;

// toLocaleString would make such a format for each number.
const FORMAT = new Intl.NumberFormat("en");
const number = (value) => FORMAT.format(value);
const counted = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`;

function readData(element) {
  return JSON.parse(element.textContent);
}

function percent(value) {
  if (value === null || value === undefined) return "?";
  return value > 0 && value < 0.0005 ? "< 0.1 %" : `${(100 * value).toFixed(1)} %`;
}

// Thumbnails stay text in the page until they are shown; the last few parts are kept as lists.
class Thumbnails {
  constructor(parts) {
    this.parts = parts;
    this.size = 100;
    this.read = new Map();
  }

  source(number) {
    const place = Math.floor(number / this.size);
    let part = this.read.get(place);
    if (!part) {
      part = readData(this.parts[place]);
      if (this.read.size >= LARGEST_CACHE) this.read.delete(this.read.keys().next().value);
      this.read.set(place, part);
    }
    const data = part[number % this.size];
    return data ? `data:image/webp;base64,${data}` : "";
  }
}

class Album {
  constructor() {
    const about = readData(document.getElementById("about"));
    this.source = about.source;
    this.isGroups = about.groups;
    this.mapMethod = about.map;
    this.words = new Words(about.labels, about.classes);
    this.thumbnails = new Thumbnails(document.querySelectorAll("script.thumbnails"));
    this.rows = [];
    for (const part of document.querySelectorAll("script.rows")) {
      for (const row of readData(part)) this.rows.push(row);
      part.remove();
    }
    this.hasSure = this.rows.some((row) => row.s);
    this.rows.forEach((row, number) => this.#complete(row, number));
    this.filters = { query: "", labels: new Set(), kind: -1, least: 0, status: "all" };
    this.orders = new Map();
    this.fails = new Uint8Array(this.rows.length);
  }

  // p path, u link, k labels, s everyday label, e error, g group, r role in it, m place on the map,
  // t why there is no thumbnail, c the true class where the label is a mistake
  #complete(row, number) {
    row.number = number;
    row.k ??= [];
    const first = row.s ?? row.k[0];
    row.main = first ? first[0] : -1;
    row.value = row.g ? row.g[1] : first ? first[1] : null;
    row.status = row.e ? "error" : this.hasSure && !row.s ? "unsure" : "sure";
    if (row.r) row.status = row.r;
    if (row.e) row.key = `error: ${row.e[0]}`;
    else if (row.g) row.key = `Group ${row.g[0]}`;
    else if (row.status === "unsure") row.key = NOT_SURE;
    else row.key = row.main < 0 ? "no label" : this.words.labels[row.main].name;
    row.title = this.#title(row);
  }

  #title(row) {
    if (row.e) return row.e[0].replaceAll("_", " ");
    if (row.g) return row.key;
    if (row.main < 0) return "no label";
    const name = this.words.labels[row.main].name;
    return row.c ? `${name}, not ${row.c}` : name;
  }

  // One line for a screen reader.
  describe(row) {
    if (row.e) return `${row.title}: ${row.e[1]} ${row.p}`;
    if (row.g) return `${row.title}, ${row.r ? `${row.r}, ` : ""}similarity ${row.g[1]}, ${row.p}`;
    const unsure = row.status === "unsure" && row.main >= 0 ? "not sure, perhaps " : "";
    return `${unsure}${row.title}${row.value === null ? "" : ` ${percent(row.value)}`}, ${row.p}`;
  }

  valueText(row) {
    if (row.e || row.value === null) return "";
    return row.g ? row.value.toFixed(4) : percent(row.value);
  }

  // Which filters each row fails, as bits, so that each list of counts can leave its own filter out.
  apply() {
    const { labels, kind, least, status } = this.filters;
    const matches = this.#matcher();
    const ofKind = kind < 0 ? null : this.words.labelsBelow([kind]);
    this.rows.forEach((row, number) => {
      let fails = matches(row) ? 0 : QUERY;
      if (labels.size && !labels.has(row.key)) fails |= LABEL;
      if (ofKind && !(row.main >= 0 && !row.e && ofKind[row.main])) fails |= KIND;
      if (least > 0 && !(row.value >= least)) fails |= LEAST;
      if (status !== "all" && row.status !== status) fails |= STATUS;
      this.fails[number] = fails;
    });
  }

  #matcher() {
    const query = this.filters.query.trim();
    this.note = "";
    if (!query) return () => true;
    const text = query.toLowerCase();
    const inPath = (row) => [row.p, row.c ?? ""].some((each) => each.toLowerCase().includes(text)) || row.key.toLowerCase() === text;
    let under = query.includes("/") ? new Uint8Array() : this.words.labelsUnder(query);
    if (!under.some(Boolean)) {
      under = query.includes("/") ? under : this.words.labelsBeginning(query);
      return (row) => inPath(row) || (row.main >= 0 && under[row.main]);
    }
    // A word that names a class finds it, not each path that happens to hold its letters.
    const senses = this.words.senses(query);
    if (senses.length > 1) {
      const names = [...new Set(senses.map((place) => this.words.classes[place].name))];
      if (names.length > 1) this.note = `Finds ${names.join(", ")}.`;
    }
    const inName = new RegExp(`(^|[^\\p{L}])${RegExp.escape ? RegExp.escape(text) : escapedForRegExp(text)}([^\\p{L}]|$)`, "u");
    return (row) => {
      if (row.main >= 0 && under[row.main]) return true;
      let sum = 0;
      for (const [label, value] of row.k) if (under[label]) sum += value ?? 0;
      return sum >= 0.5 || [row.p.slice(row.p.lastIndexOf("/") + 1), row.c ?? ""].some((each) => inName.test(each.toLowerCase()));
    };
  }

  // The rows that pass all filters but the one left out, in the chosen order.
  passing(leftOut = 0) {
    return this.rows.filter((row) => !(this.fails[row.number] & ~leftOut));
  }

  shown(order) {
    return this.ordered(order).filter((row) => !this.fails[row.number]);
  }

  // Sorted once for each order; filters only leave rows out.
  ordered(order) {
    if (!this.orders.has(order)) {
      const compare = COMPARE[order];
      this.orders.set(order, compare ? [...this.rows].sort((a, b) => compare(a, b) || a.number - b.number) : this.rows);
    }
    return this.orders.get(order);
  }

  labelCounts() {
    const counts = new Map();
    for (const row of this.passing(LABEL)) counts.set(row.key, (counts.get(row.key) ?? 0) + 1);
    for (const key of this.filters.labels) if (!counts.has(key)) counts.set(key, 0);
    const isLast = (key) => key === NOT_SURE || key.startsWith("error: ");
    return [...counts].sort((a, b) => isLast(a[0]) - isLast(b[0]) || b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  }

  statusCounts() {
    const counts = new Map();
    for (const row of this.passing(STATUS)) counts.set(row.status, (counts.get(row.status) ?? 0) + 1);
    return counts;
  }

  // How many rows lie at or below each class.
  kindCounts() {
    const perLabel = new Map();
    for (const row of this.passing(KIND)) {
      if (row.main >= 0 && !row.e) perLabel.set(row.main, (perLabel.get(row.main) ?? 0) + 1);
    }
    const counts = new Map();
    for (const [label, count] of perLabel) {
      for (const place of this.words.above(this.words.labels[label].place)) {
        counts.set(place, (counts.get(place) ?? 0) + count);
      }
    }
    return counts;
  }
}

function escapedForRegExp(text) {
  return text.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");
}

const NAMES = new Intl.Collator(undefined, { numeric: true });
const LAST = (row) => (row.e ? 2 : row.status === "unsure" ? 1 : 0);
const COMPARE = {
  name: (a, b) => NAMES.compare(a.p, b.p),
  label: (a, b) => LAST(a) - LAST(b) || NAMES.compare(a.key, b.key) || (b.value ?? -1) - (a.value ?? -1),
  surest: (a, b) => LAST(a) - LAST(b) || (b.value ?? -1) - (a.value ?? -1),
  least: (a, b) => (a.value ?? 2) - (b.value ?? 2),
};

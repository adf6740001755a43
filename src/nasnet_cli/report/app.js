"use strict";
// The page: filters, views, keys and printing.

const FEW_LABELS = 12, MOST_PRINTED = 500;
const at = (name) => document.getElementById(name);

class App {
  constructor() {
    const album = this.album = new Album();
    this.view = "grid";
    this.showsAllLabels = false;
    this.expanded = new Set();
    this.viewer = new Viewer(album, (row, place) => this.#closed(place));
    const open = (rows) => (place) => this.viewer.open(rows(), place);
    this.grid = new Grid(at("grid"), album, open(() => this.grid.rows));
    if (album.mapMethod) this.map = new ImageMap(album, open(() => this.map.rows));
    this.#describe();
    this.#fillControls();
    this.#listen();
    this.#update();
    (globalThis.requestIdleCallback ?? setTimeout)(() => album.words.prepare());
  }

  #describe() {
    const { rows, source, isGroups } = this.album;
    const errors = rows.filter((row) => row.e).length;
    const groups = new Set(rows.map((row) => row.key)).size;
    at("summary").textContent = [
      counted(rows.length, "image"),
      isGroups && counted(groups, "group"),
      errors && counted(errors, "error"),
      `from ${source}`,
    ].filter(Boolean).join(" · ");
  }

  #fillControls() {
    const { album } = this;
    const groups = album.isGroups;
    const orders = {
      "": groups ? "By group" : "In order", label: groups ? "" : "By label", name: "By name",
      surest: groups ? "Most similar first" : "Surest first", least: groups ? "Least similar first" : "Least sure first",
    };
    for (const [value, text] of Object.entries(orders)) if (text) at("sort").append(new Option(text, value));
    at("views").hidden = !this.map;
    if (groups) {
      at("minimum-title").textContent = "Similarity";
      at("labels-title").textContent = "Groups";
      at("search").placeholder = "Search: beach.jpg, 2024/";
    }
    const roles = [...new Set(album.rows.map((row) => row.r).filter(Boolean))];
    this.statuses = groups ? { all: "All", ...Object.fromEntries(roles.map((role) => [role, capitalized(role)])) }
      : album.hasSure ? { all: "All", sure: "Sure", unsure: "Not sure", error: "Errors" }
      : { all: "All", sure: "Labelled", error: "Errors" };
    const present = new Set(["all", ...album.rows.map((row) => row.status)]);
    for (const [value, text] of Object.entries(this.statuses)) {
      if (!present.has(value)) continue;
      const button = make("button", "", text);
      button.type = "button";
      button.dataset.status = value;
      at("status").append(button);
    }
    if (matchMedia("(max-width: 52rem)").matches) at("filters").open = false;
  }

  #listen() {
    const { filters } = this.album;
    const change = (act) => (event) => { act(event); this.#update(); };
    at("search").addEventListener("input", change(() => { filters.query = at("search").value; }));
    at("sort").addEventListener("change", change(() => {}));
    at("minimum").addEventListener("input", change(() => { filters.least = at("minimum").value / 100; }));
    at("status").addEventListener("click", change((event) => {
      filters.status = event.target.dataset.status ?? filters.status;
    }));
    at("labels").addEventListener("click", change((event) => {
      const key = event.target.closest("button")?.dataset.key;
      if (key !== undefined && !filters.labels.delete(key)) filters.labels.add(key);
    }));
    at("more-labels").addEventListener("click", change(() => { this.showsAllLabels = !this.showsAllLabels; }));
    at("tree").addEventListener("click", change((event) => this.#onTree(event)));
    at("clear").addEventListener("click", change(() => {
      this.#clear();
      at("search").focus();
    }));
    at("views").addEventListener("click", change((event) => { this.view = event.target.dataset.view ?? this.view; }));
    addEventListener("keydown", (event) => {
      const isTyping = event.target.closest?.("input:not([type=range]), select, dialog");
      if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey) {
        event.preventDefault();
        at("search").focus();
      }
    });
    addEventListener("beforeprint", () => this.#print());
    addEventListener("afterprint", () => at("print").replaceChildren());
  }

  #clear() {
    Object.assign(this.album.filters, { query: "", kind: -1, least: 0, status: "all" });
    this.album.filters.labels.clear();
    at("search").value = "";
    at("minimum").value = 0;
  }

  #onTree(event) {
    const button = event.target.closest("button");
    if (!button) return;
    const place = Number(button.dataset.place);
    if (button.classList.contains("twist")) {
      if (!this.expanded.delete(place)) this.expanded.add(place);
    } else {
      this.album.filters.kind = this.album.filters.kind === place ? -1 : place;
      this.expanded.add(place);
    }
  }

  #update() {
    const { album } = this, { filters } = album;
    const order = at("sort").value;
    album.apply();
    const shown = album.shown(order);
    const total = album.rows.length;
    at("count").textContent = shown.length === total ? counted(total, "image")
      : `${number(shown.length)} of ${counted(total, "image")}`;
    at("search-note").textContent = album.note;
    at("clear").hidden = shown.length === total && !filters.query && filters.kind < 0;
    at("nothing").hidden = shown.length > 0;
    at("minimum-value").textContent = filters.least ? `≥ ${Math.round(100 * filters.least)} %` : "any";
    at("minimum").setAttribute("aria-valuetext", at("minimum-value").textContent);
    at("grid").hidden = this.view !== "grid";
    at("map").hidden = this.view !== "map";
    for (const button of at("views").children) {
      button.setAttribute("aria-pressed", String(button.dataset.view === this.view));
    }
    this.#drawStatus();
    this.#drawLabels();
    this.#drawTree();
    if (this.view === "map") this.map.show(shown);
    else this.grid.show(shown, order === "label" || (album.isGroups && !order) ? (row) => row.key : null);
  }

  #drawStatus() {
    const counts = this.album.statusCounts();
    const all = [...counts.values()].reduce((sum, count) => sum + count, 0);
    for (const button of at("status").children) {
      const status = button.dataset.status;
      button.setAttribute("aria-pressed", String(status === this.album.filters.status));
      button.title = counted(status === "all" ? all : counts.get(status) ?? 0, "image");
    }
  }

  #drawLabels() {
    const counts = this.album.labelCounts();
    const { labels } = this.album.filters;
    const few = counts.filter(([key], place) => this.showsAllLabels || place < FEW_LABELS || labels.has(key));
    const most = Math.max(1, ...counts.map(([, count]) => count));
    this.#redraw(at("labels"), few.map(([key, count]) => countBar(key, count, most, labels.has(key), { key })));
    at("more-labels").hidden = counts.length <= FEW_LABELS;
    at("more-labels").textContent = this.showsAllLabels ? "Show fewer" : `Show all ${number(counts.length)}`;
  }

  // The focused button is drawn anew, and keeps the focus.
  #redraw(box, elements) {
    const focused = box.contains(document.activeElement) ? document.activeElement : null;
    box.replaceChildren(...elements);
    if (!focused) return;
    const { key, place } = focused.dataset;
    const class_ = focused.classList[0];
    const same = [...box.querySelectorAll("button")].find((button) => (
      button.dataset.key === key && button.dataset.place === place && button.classList.contains(class_)
    ));
    same?.focus({ preventScroll: true });
  }

  #drawTree() {
    const { words, filters } = this.album;
    const counts = this.album.kindCounts();
    if (filters.kind >= 0 && !counts.has(filters.kind)) counts.set(filters.kind, 0);
    const helps = this.helpful ??= new Set(words.classes.flatMap(({ nearest }) => (nearest < 0 ? [] : [nearest])));
    for (const { place } of words.labels) if (place >= 0) helps.add(place);
    const children = new Map();
    for (const place of counts.keys()) {
      if (!helps.has(place)) continue;
      const parent = words.classes[place].nearest;
      children.set(parent, [...children.get(parent) ?? [], place]);
    }
    at("tree-section").hidden = !children.size;
    const most = Math.max(1, ...(children.get(-1) ?? []).map((place) => counts.get(place)));
    const branch = (parent) => {
      const list = make("ul");
      const places = children.get(parent) ?? [];
      for (const place of places.sort((a, b) => counts.get(b) - counts.get(a) || a - b)) {
        list.append(this.#branch(place, counts.get(place), most, children.has(place), branch));
      }
      return list;
    };
    this.#redraw(at("tree"), children.size ? [branch(-1)] : []);
  }

  #branch(place, count, most, hasChildren, branch) {
    const { words, filters } = this.album;
    const item = make("li"), line = make("div", "branch"), twist = make("button", "twist");
    const isOpen = hasChildren && this.expanded.has(place);
    twist.type = "button";
    twist.dataset.place = place;
    if (hasChildren) {
      twist.setAttribute("aria-expanded", String(isOpen));
      twist.setAttribute("aria-label", `Kinds of ${words.classes[place].name}`);
    } else {
      twist.classList.add("is-leaf");
      twist.setAttribute("aria-hidden", "true");
      twist.tabIndex = -1;
    }
    line.append(twist, countBar(words.classes[place].name, count, most, filters.kind === place, { place }));
    item.append(line);
    if (isOpen) item.append(branch(place));
    return item;
  }

  #closed(place) {
    if (this.view === "grid") this.grid.focus(place);
    else at("plot").focus();
  }

  #print() {
    const rows = this.album.shown(at("sort").value);
    const printed = rows.slice(0, MOST_PRINTED);
    const sheet = make("div", "sheet");
    for (const row of printed) {
      const figure = make("figure"), caption = make("figcaption");
      const source = this.album.thumbnails.source(row.number);
      if (source) {
        const image = make("img");
        image.alt = "";
        image.src = source;
        figure.append(image);
      }
      const label = row.status === "unsure" && row.main >= 0 ? `${row.title}?` : row.title;
      caption.append(make("b", "", `${label} ${this.album.valueText(row)}`), row.p);
      if (row.e) caption.append(make("div", "", row.e[1]));
      figure.append(caption);
      sheet.append(figure);
    }
    const what = printed.length < rows.length ? `The first ${number(printed.length)} of ` : "";
    const which = rows.length < this.album.rows.length ? `${counted(rows.length, "image")} of ` : "";
    at("print").replaceChildren(
      make("h1", "", document.title), make("p", "", `${what}${which}${at("summary").textContent}`), sheet,
    );
  }
}

function countBar(name, count, most, isPressed, data) {
  const button = make("button", "count-bar"), track = make("span", "track"), fill = make("span", "fill");
  button.type = "button";
  if (name.startsWith("error: ")) button.classList.add("is-error");
  Object.assign(button.dataset, data);
  button.setAttribute("aria-pressed", String(isPressed));
  button.title = name;
  fill.style.width = `${100 * count / most}%`;
  track.append(fill);
  button.append(make("span", "name", name), make("span", "number", number(count)), track);
  return button;
}

function capitalized(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

globalThis.report = new App();

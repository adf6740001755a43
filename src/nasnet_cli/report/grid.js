"use strict";
// The grid: only the tiles near the window exist. One of them takes part in the order of tabs, and
// arrow keys move between them.

const GAP = 16, TEXT_HEIGHT = 62, TITLE_HEIGHT = 46;

class Grid {
  constructor(root, album, open) {
    this.root = root;
    this.album = album;
    this.open = open;
    this.rows = [];
    this.lines = [];
    this.tiles = new Map();
    this.titles = new Map();
    this.current = 0;
    root.setAttribute("role", "list");
    root.setAttribute("aria-label", "Images");
    root.addEventListener("keydown", (event) => this.#onKey(event));
    root.addEventListener("focusin", (event) => {
      const tile = event.target.closest(".tile");
      if (tile) this.#setCurrent(Number(tile.dataset.place));
    });
    addEventListener("scroll", () => this.#schedule(), { passive: true });
    new ResizeObserver(() => this.layout()).observe(root);
  }

  // With a key, rows that have the same one in sequence stand under its title.
  show(rows, keyOf = null) {
    this.rows = rows;
    this.keyOf = keyOf;
    this.current = 0;
    this.root.hidden = !rows.length;
    for (const tile of this.tiles.values()) tile.remove();
    this.tiles.clear();
    this.layout();
  }

  layout() {
    const width = this.root.clientWidth;
    if (!width) return;
    const least = width < 520 ? 140 : 190;
    this.columns = Math.max(1, Math.floor((width + GAP) / (least + GAP)));
    this.width = (width - GAP * (this.columns - 1)) / this.columns;
    this.height = Math.round(this.width * 0.8) + TEXT_HEIGHT;
    this.lines = [];
    this.lineOf = new Int32Array(this.rows.length);
    let top = 0;
    for (let start = 0; start < this.rows.length;) {
      let end = start + 1;
      if (this.keyOf) {
        const key = this.keyOf(this.rows[start]);
        while (end < this.rows.length && this.keyOf(this.rows[end]) === key) end++;
        this.lines.push({ top, height: TITLE_HEIGHT, title: key, count: end - start });
        top += TITLE_HEIGHT;
      } else {
        end = this.rows.length;
      }
      for (; start < end; start += this.columns) {
        const stop = Math.min(start + this.columns, end);
        this.lineOf.fill(this.lines.length, start, stop);
        this.lines.push({ top, height: this.height, start, stop });
        top += this.height + GAP;
      }
      start = end;
    }
    this.root.style.height = `${top}px`;
    for (const title of this.titles.values()) title.remove();
    this.titles.clear();
    this.render();
  }

  #schedule() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.render();
    });
  }

  render() {
    if (this.root.hidden || !this.lines.length) return;
    const from = -this.root.getBoundingClientRect().top - innerHeight / 2;
    const until = from + 2 * innerHeight;
    const wanted = new Set(), titles = new Set();
    for (let line = this.#lineAt(from); line < this.lines.length && this.lines[line].top <= until; line++) {
      const { start, stop, title } = this.lines[line];
      if (title !== undefined) titles.add(line);
      else for (let place = start; place < stop; place++) wanted.add(place);
    }
    // One tile is there wherever the window is, so that Tab reaches the grid.
    if (this.root.contains(document.activeElement) || !wanted.size) wanted.add(this.current);
    this.#keep(this.tiles, wanted, (place) => this.#tile(place), (tile, place) => this.#put(tile, place));
    this.#keep(this.titles, titles, (line) => this.#title(line), () => {});
    for (const [place, tile] of this.tiles) tile.firstChild.tabIndex = place === this.current ? 0 : -1;
    // The order of tabs begins at a tile that is on the screen.
    if (!this.tiles.has(this.current) && wanted.size) {
      this.tiles.get(Math.min(...wanted)).firstChild.tabIndex = 0;
    }
  }

  // Elements in the order of their places, which is the order that a screen reader goes in.
  #keep(elements, wanted, create, place) {
    for (const [key, element] of elements) {
      if (!wanted.has(key)) {
        element.remove();
        elements.delete(key);
      }
    }
    for (const key of [...wanted].sort((a, b) => a - b)) {
      if (!elements.has(key)) {
        const element = create(key);
        const after = [...elements].filter(([other]) => other > key).map(([, other]) => other)[0];
        elements.set(key, element);
        this.root.insertBefore(element, after ?? null);
      }
      place(elements.get(key), key);
    }
  }

  #lineAt(top) {
    let low = 0, high = this.lines.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.lines[middle].top + this.lines[middle].height < top) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #put(tile, place) {
    const line = this.lines[this.lineOf[place]];
    const left = (place - line.start) * (this.width + GAP);
    tile.style.width = `${this.width}px`;
    tile.style.height = `${this.height}px`;
    tile.style.transform = `translate(${left}px, ${line.top}px)`;
  }

  #title(line) {
    const { title, count, top } = this.lines[line];
    const element = make("div", "section-title", `${title} `);
    element.setAttribute("aria-hidden", "true");
    element.append(make("span", "", number(count)));
    element.style.top = `${top}px`;
    return element;
  }

  #tile(place) {
    const row = this.rows[place];
    const tile = make("div", "tile"), button = make("button"), shown = make("span", "shown");
    tile.dataset.place = place;
    tile.setAttribute("role", "listitem");
    tile.setAttribute("aria-setsize", this.rows.length);
    tile.setAttribute("aria-posinset", place + 1);
    button.type = "button";
    button.setAttribute("aria-label", this.album.describe(row));
    button.addEventListener("click", () => this.open(place));
    const source = this.album.thumbnails.source(row.number);
    if (source) {
      const image = make("img");
      image.alt = "";
      image.decoding = "async";
      image.src = source;
      shown.append(image);
    } else {
      const why = make("span", "why");
      if (row.e) why.append(make("b", "", row.title));
      why.append(row.e ? row.e[1] : row.t ?? "");
      shown.append(why);
    }
    button.append(shown, this.#words(row));
    tile.append(button);
    return tile;
  }

  #words(row) {
    const words = make("span", "words"), label = make("span", "label");
    const title = row.r ? `${row.r} · ${row.title}` : row.status === "unsure" && row.main >= 0 ? `${row.title}?` : row.title;
    label.append(make("span", row.e ? "is-error" : row.status === "unsure" ? "unsure" : "", title));
    label.append(make("span", "", this.album.valueText(row)));
    if (row.value !== null && !row.e) {
      const level = make("span", "level");
      level.style.width = `${100 * Math.min(1, Math.max(0, row.value))}%`;
      words.append(level);
    }
    words.append(label, make("span", "path", row.p.slice(row.p.lastIndexOf("/") + 1)));
    return words;
  }

  #setCurrent(place) {
    const before = this.tiles.get(this.current);
    if (before) before.firstChild.tabIndex = -1;
    this.current = place;
    const tile = this.tiles.get(place);
    if (tile) tile.firstChild.tabIndex = 0;
  }

  focus(place) {
    const line = this.lines[this.lineOf[place]];
    if (!line) return;
    const top = this.root.getBoundingClientRect().top + line.top;
    const header = document.querySelector("header");
    const above = getComputedStyle(header).position === "sticky" ? header.offsetHeight + 12 : 12;
    if (top < above) scrollBy(0, top - above);
    else if (top + this.height > innerHeight - 12) scrollBy(0, top + this.height - innerHeight + 12);
    this.#setCurrent(place);
    this.render();
    if (!this.tiles.has(place)) {
      const tile = this.#tile(place);
      this.tiles.set(place, tile);
      this.root.append(tile);
      this.#put(tile, place);
    }
    this.tiles.get(place).firstChild.tabIndex = 0;
    this.tiles.get(place).firstChild.focus({ preventScroll: true });
  }

  #onKey(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const page = Math.max(1, Math.floor(innerHeight / (this.height + GAP)));
    const target = {
      ArrowRight: () => this.current + 1,
      ArrowLeft: () => this.current - 1,
      ArrowDown: () => this.#vertical(1),
      ArrowUp: () => this.#vertical(-1),
      PageDown: () => this.#vertical(page),
      PageUp: () => this.#vertical(-page),
      Home: () => 0,
      End: () => this.rows.length - 1,
    }[event.key];
    if (!target) return;
    event.preventDefault();
    this.focus(Math.max(0, Math.min(this.rows.length - 1, target())));
  }

  // The place so many lines further down, in the same column where there is one.
  #vertical(lines) {
    const column = this.current - this.lines[this.lineOf[this.current]].start;
    let line = this.lineOf[this.current], left = Math.abs(lines);
    for (let next = line + Math.sign(lines); left && this.lines[next]; next += Math.sign(lines)) {
      if (this.lines[next].title === undefined) {
        line = next;
        left--;
      }
    }
    const { start, stop } = this.lines[line];
    return Math.min(start + column, stop - 1);
  }
}

function make(name, class_ = "", text = "") {
  const element = document.createElement(name);
  if (class_) element.className = class_;
  if (text) element.textContent = text;
  return element;
}

"use strict";
// The map: a point for each image with a vector, and the images themselves where there is room.

const COLOURS = 8, FEW = 60, NEAR = 14;

class ImageMap {
  constructor(album, open) {
    this.album = album;
    this.open = open;
    this.box = document.getElementById("plot");
    this.canvas = this.box.querySelector("canvas");
    this.tip = document.getElementById("tip");
    this.state = document.getElementById("plot-state");
    this.images = new Map();
    this.rows = [];
    this.#reset();
    document.getElementById("method").textContent = album.mapMethod;
    this.#colours();
    new ResizeObserver(() => this.draw()).observe(this.box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.box.addEventListener("keydown", (event) => this.#onKey(event));
    this.box.addEventListener("blur", () => this.#point(null));
    this.canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.#zoom(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY);
    }, { passive: false });
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      this.drag = { x: event.offsetX, y: event.offsetY, moved: 0 };
    });
    this.canvas.addEventListener("pointermove", (event) => this.#onMove(event));
    this.canvas.addEventListener("pointerleave", () => this.#point(null));
    this.canvas.addEventListener("pointerup", (event) => {
      const clicked = this.drag && this.drag.moved < 5;
      this.drag = null;
      const row = clicked && this.#nearest(event.offsetX, event.offsetY);
      if (row) this.open(this.rows.indexOf(row));
    });
  }

  show(rows) {
    this.rows = rows.filter((row) => row.m);
    this.shown = new Set(this.rows);
    const what = `Map of ${counted(this.rows.length, "image")}`;
    this.box.setAttribute("aria-label", what);
    this.current = null;
    this.draw();
  }

  // The commonest labels have a colour of their own.
  #colours() {
    const counts = new Map();
    for (const row of this.album.rows) if (row.m) counts.set(row.key, (counts.get(row.key) ?? 0) + 1);
    const keys = [...counts.keys()].filter((key) => key !== NOT_SURE).sort((a, b) => counts.get(b) - counts.get(a));
    this.colourOf = new Map(keys.slice(0, COLOURS).map((key, place) => [key, place]));
    const legend = document.getElementById("legend");
    const entries = [...this.colourOf, ...(counts.size > this.colourOf.size ? [["others", COLOURS]] : [])];
    for (const [key, place] of entries) {
      const item = make("li"), dot = make("span", "dot");
      dot.style.background = `var(--c${place})`;
      item.append(dot, key);
      legend.append(item);
    }
  }

  #reset() {
    this.scale = 1;
    this.left = this.top = 0;
  }

  // From a place in 0..1 to the canvas, in CSS pixels.
  at(row) {
    const side = Math.min(this.width, this.height) - 80;
    const x = (this.width - side) / 2 + row.m[0] * side, y = (this.height - side) / 2 + (1 - row.m[1]) * side;
    return [x * this.scale + this.left, y * this.scale + this.top];
  }

  draw() {
    this.width = this.box.clientWidth;
    this.height = this.box.clientHeight;
    if (!this.width) return;
    const ratio = devicePixelRatio || 1;
    this.canvas.width = this.width * ratio;
    this.canvas.height = this.height * ratio;
    const context = this.canvas.getContext("2d");
    context.scale(ratio, ratio);
    const style = getComputedStyle(document.documentElement);
    const colours = Array.from({ length: COLOURS + 1 }, (_, place) => style.getPropertyValue(`--c${place}`));
    context.globalAlpha = 0.15;
    for (const row of this.album.rows) {
      if (row.m && !this.shown.has(row)) this.#dot(context, row, colours[COLOURS], 2);
    }
    context.globalAlpha = 0.85;
    const visible = this.rows.filter((row) => this.#isVisible(row));
    for (const row of visible) {
      const colour = colours[this.colourOf.get(row.key) ?? COLOURS];
      if (visible.length > FEW || !this.#picture(context, row, colour)) this.#dot(context, row, colour, 3.5);
    }
    context.globalAlpha = 1;
    if (this.current) {
      const [x, y] = this.at(this.current);
      context.strokeStyle = style.getPropertyValue("--text");
      context.lineWidth = 2.5;
      context.beginPath();
      context.arc(x, y, 9, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  #isVisible(row) {
    const [x, y] = this.at(row);
    return x > -40 && y > -40 && x < this.width + 40 && y < this.height + 40;
  }

  #dot(context, row, colour, radius) {
    const [x, y] = this.at(row);
    context.fillStyle = colour;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fill();
  }

  #picture(context, row, colour) {
    let image = this.images.get(row.number);
    if (!image) {
      const source = this.album.thumbnails.source(row.number);
      if (!source) return false;
      if (this.images.size > 4 * FEW) this.images.clear();
      image = new Image();
      image.addEventListener("load", () => this.#schedule());
      image.src = source;
      this.images.set(row.number, image);
    }
    if (!image.complete || !image.naturalWidth) return false;
    const [x, y] = this.at(row);
    const size = 64 / Math.max(image.naturalWidth, image.naturalHeight);
    const width = image.naturalWidth * size, height = image.naturalHeight * size;
    context.fillStyle = colour;
    context.fillRect(x - width / 2 - 2, y - height / 2 - 2, width + 4, height + 4);
    context.drawImage(image, x - width / 2, y - height / 2, width, height);
    return true;
  }

  #schedule() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  #nearest(x, y) {
    let best = null, least = this.rows.filter((row) => this.#isVisible(row)).length > FEW ? NEAR : 34;
    for (const row of this.rows) {
      const [left, top] = this.at(row);
      const distance = Math.hypot(left - x, top - y);
      if (distance < least) [best, least] = [row, distance];
    }
    return best;
  }

  #point(row) {
    if (row === this.current) return;
    this.current = row;
    this.tip.hidden = !row;
    this.state.textContent = row ? this.album.describe(row) : "";
    this.#schedule();
    if (!row) return;
    const image = this.tip.querySelector("img"), source = this.album.thumbnails.source(row.number);
    image.hidden = !source;
    if (source) image.src = source;
    this.tip.querySelector("span").textContent = `${row.title} ${this.album.valueText(row)}`;
    const [x, y] = this.at(row), box = this.box.getBoundingClientRect();
    const left = Math.min(box.left + x + 16, innerWidth - 200), top = Math.min(box.top + y + 16, innerHeight - 220);
    this.tip.style.left = `${Math.max(8, left)}px`;
    this.tip.style.top = `${Math.max(8, top)}px`;
  }

  #onMove(event) {
    if (!this.drag) {
      this.#point(this.#nearest(event.offsetX, event.offsetY));
      return;
    }
    const dx = event.offsetX - this.drag.x, dy = event.offsetY - this.drag.y;
    this.drag = { x: event.offsetX, y: event.offsetY, moved: this.drag.moved + Math.abs(dx) + Math.abs(dy) };
    this.left += dx;
    this.top += dy;
    this.#point(null);
    this.#schedule();
  }

  #zoom(factor, x = this.width / 2, y = this.height / 2) {
    const scale = Math.max(0.5, Math.min(200, this.scale * factor));
    this.left = x - (x - this.left) * scale / this.scale;
    this.top = y - (y - this.top) * scale / this.scale;
    this.scale = scale;
    this.#point(null);
    this.#schedule();
  }

  #onKey(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const direction = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
    if (direction) this.#step(...direction);
    else if (event.key === "+" || event.key === "=") this.#zoom(1.5);
    else if (event.key === "-") this.#zoom(1 / 1.5);
    else if (event.key === "0") { this.#reset(); this.#schedule(); }
    else if (event.key === "Enter" && this.current) this.open(this.rows.indexOf(this.current));
    else return;
    event.preventDefault();
  }

  // To the nearest image in a direction, those straight ahead first.
  #step(dx, dy) {
    if (!this.current) {
      this.#point(this.rows[0] ?? null);
      return;
    }
    const [x, y] = this.at(this.current);
    let best = null, least = Infinity;
    for (const row of this.rows) {
      const [left, top] = this.at(row);
      const ahead = (left - x) * dx + (top - y) * dy, aside = Math.abs((left - x) * dy) + Math.abs((top - y) * dx);
      if (row !== this.current && ahead > 0 && aside <= 2 * ahead && ahead + 2 * aside < least) {
        [best, least] = [row, ahead + 2 * aside];
      }
    }
    if (best) this.#point(best);
  }
}

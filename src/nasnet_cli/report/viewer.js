"use strict";
// One image, enlarged: its labels with bars, the classes above it, and a link to the file.

class Viewer {
  constructor(album, closed) {
    this.album = album;
    this.dialog = document.getElementById("viewer");
    const part = (name) => document.getElementById(name);
    this.parts = {
      place: part("viewer-place"), image: part("viewer-image"), missing: part("viewer-missing"),
      title: part("viewer-title"), above: part("viewer-above"), error: part("viewer-error"),
      bars: part("viewer-bars"), path: part("viewer-path"), link: part("viewer-link"),
      previous: part("previous"), next: part("next"),
    };
    part("previous").addEventListener("click", () => this.#go(-1));
    part("next").addEventListener("click", () => this.#go(1));
    part("close").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("close", () => closed(this.rows[this.place], this.place));
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog) this.dialog.close();
    });
    this.dialog.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step && !event.altKey && !event.ctrlKey && !event.metaKey) {
        event.preventDefault();
        this.#go(step);
      }
    });
  }

  open(rows, place) {
    this.rows = rows;
    this.#show(place);
    this.dialog.showModal();
    this.parts.title.focus();
  }

  #go(step) {
    const place = this.place + step;
    if (place >= 0 && place < this.rows.length) this.#show(place);
  }

  #show(place) {
    const { parts, album } = this;
    const row = this.rows[this.place = place];
    parts.place.textContent = `${number(place + 1)} of ${number(this.rows.length)}`;
    parts.previous.disabled = place === 0;
    parts.next.disabled = place === this.rows.length - 1;
    this.#showImage(row);
    const unsure = row.status === "unsure" && row.main >= 0;
    parts.title.textContent = unsure ? `Not sure, perhaps ${row.title}` : row.title;
    const classes = row.main < 0 || row.e ? [] : album.words.path(album.words.labels[row.main].place);
    parts.above.textContent = [
      row.s && `Sure of ${row.title} at ${percent(row.s[1])}.`,
      row.r && `Role: ${row.r}.`,
      row.g && `Similarity: ${row.g[1]}.`,
      classes.length && `Kinds: ${classes.map((each) => album.words.classes[each].name).join(" › ")}`,
    ].filter(Boolean).join(" ");
    parts.error.textContent = row.e ? row.e[1] : "";
    parts.bars.replaceChildren(...row.k.map(([label, probability]) => this.#bar(label, probability)));
    parts.bars.hidden = !row.k.length;
    parts.path.textContent = row.p;
    parts.link.hidden = !row.u;
    if (row.u) parts.link.href = row.u;
    else parts.link.removeAttribute("href");
  }

  // The thumbnail at once; the file itself instead where the page lies on the disk beside it.
  #showImage(row) {
    const { image, missing } = this.parts;
    const thumbnail = this.album.thumbnails.source(row.number);
    image.hidden = !thumbnail;
    image.alt = thumbnail ? `Image: ${row.title}` : "";
    if (thumbnail) image.src = thumbnail;
    missing.textContent = thumbnail ? "" : row.e ? "No image" : row.t ?? "";
    if (!thumbnail || !row.u || location.protocol !== "file:" || /^https?:/.test(row.u)) return;
    const whole = new Image();
    whole.addEventListener("load", () => {
      if (this.rows[this.place] === row) image.src = whole.src;
    });
    whole.src = row.u;
  }

  #bar(label, probability) {
    const item = make("li"), track = make("span", "track"), fill = make("span", "fill");
    fill.style.width = `${100 * (probability ?? 0)}%`;
    track.append(fill);
    item.append(make("span", "", this.album.words.labels[label].name), make("span", "", percent(probability)), track);
    return item;
  }
}

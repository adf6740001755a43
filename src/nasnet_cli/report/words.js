"use strict";
// Words and the classes that they stand for, as nasnet find has them (search.py).

const ENDINGS = [
  ["s", ""], ["es", ""], ["ies", "y"], ["ves", "f"], ["ves", "fe"], ["men", "man"], ["i", "us"], ["a", "um"],
];
const IRREGULAR = { geese: "goose", mice: "mouse", oxen: "ox", people: "person", titmice: "titmouse" };

function folded(text) {
  return text.normalize("NFC").replace(/[\s_-]+/g, " ").trim().toLowerCase();
}

function singulars(word) {
  const found = Object.hasOwn(IRREGULAR, word) ? [IRREGULAR[word]] : [];
  for (const [ending, singular] of ENDINGS) {
    if (word.endsWith(ending) && word.length > ending.length + 1 && !word.endsWith("ss")) {
      found.push(word.slice(0, word.length - ending.length) + singular);
    }
  }
  return found;
}

// The text, folded, and what it may be with one of its words in the singular.
function forms(text) {
  const words = folded(text).split(" ");
  const found = new Set([words.join(" ")]);
  words.forEach((word, place) => {
    for (const singular of singulars(word)) {
      found.add([...words.slice(0, place), singular, ...words.slice(place + 1)].join(" "));
    }
  });
  return found;
}

// A label and, where it is a list of synonyms, each of them.
function namesIn(label) {
  return label.includes(", ") ? [label, ...label.split(", ")] : [label];
}

// The labels and the part of WordNet above them. A class comes after all classes above it.
class Words {
  constructor(labels, classes) {
    this.labels = labels.map(([text, name, place]) => ({ text, name, place }));
    this.classes = classes.map(([wnid, name, synonyms, parents, nearest]) => (
      { wnid, name, synonyms, parents, nearest }
    ));
    this.exact = new Map();
    this.classes.forEach((each, place) => {
      const names = new Set([...each.synonyms.split(", "), each.name, each.wnid].map(folded));
      for (const name of names) this.#add(this.exact, name, place);
    });
  }

  // The classes by their names and the singular forms of these, and each label's forms: they take
  // a while, and are needed from the first search on.
  prepare() {
    if (this.byForm) return;
    this.byForm = new Map();
    for (const [name, places] of this.exact) {
      for (const form of forms(name)) for (const place of places) this.#add(this.byForm, form, place);
    }
    this.formsOf = this.labels.map(({ text }) => [...new Set(namesIn(text).flatMap((name) => [...forms(name)]))]);
  }

  #add(map, name, place) {
    if (!map.has(name)) map.set(name, []);
    map.get(name).push(place);
  }

  // The classes that a word names: an exact name first, then in the singular, then as a plural.
  senses(word) {
    const exact = this.exact.get(folded(word));
    if (exact) return exact;
    const own = [...forms(word)];
    const singular = own.flatMap((form) => this.exact.get(form) ?? []);
    if (singular.length) return singular;
    this.prepare();
    return own.flatMap((form) => this.byForm.get(form) ?? []);
  }

  // For each class, 1 where it is one of these or below one.
  below(places) {
    const under = new Uint8Array(this.classes.length);
    for (const place of places) under[place] = 1;
    this.classes.forEach(({ parents }, place) => {
      if (parents.some((parent) => under[parent])) under[place] = 1;
    });
    return under;
  }

  // For each label, 1 where its class is one of these or below one.
  labelsBelow(places) {
    const under = this.below(places);
    return Uint8Array.from(this.labels, ({ place }) => (place >= 0 ? under[place] : 0));
  }

  // For each label, 1 where it lies under the word, by its class or by its text.
  labelsUnder(word) {
    const found = this.labelsBelow(this.senses(word));
    // An id stands for its class alone.
    if (/^n\d{8}$/i.test(word.trim())) return found;
    const own = forms(word);
    this.prepare();
    this.formsOf.forEach((forms, number) => {
      if (forms.some((form) => own.has(form))) found[number] = 1;
    });
    return found;
  }

  // For each label, 1 where one of its names has a word that begins so.
  labelsBeginning(start) {
    const beginning = ` ${folded(start)}`;
    return Uint8Array.from(this.labels, ({ text, place }) => {
      const names = place >= 0 ? `${text} ${this.classes[place].synonyms}` : text;
      return ` ${folded(names).replaceAll(",", " ")}`.includes(beginning) ? 1 : 0;
    });
  }

  // The numbers of a class and of all above it.
  above(place) {
    if (place < 0) return [];
    const each = this.classes[place];
    each.above ??= [...new Set([place, ...each.parents.flatMap((parent) => this.above(parent))])];
    return each.above;
  }

  // The classes above a label that help people, the nearest first, one above the other.
  path(place) {
    const found = [];
    for (let each = place < 0 ? -1 : this.classes[place].nearest; each >= 0; each = this.classes[each].nearest) {
      found.push(each);
    }
    return found;
  }
}

// Same, different, can’t tell: what somebody says of matches, each kept between a match and the reference.
//
// The reference is the entry that is searched for. A picture that was dropped is no entry: the first match that is called
// the same becomes the reference then, and what was said of others before is kept with it.

import { getJson, postJson } from "./api.js";
import { byId, say } from "./dom.js";
import { offerName } from "./people.js";

export const ANSWERS = { same: "Same", different: "Different", unsure: "Can’t tell" };

export class Answers {
  constructor(gallery) {
    this.gallery = gallery;
    this.reference = null;
    this.given = new Map();
  }

  async begin(ids, matches) {
    this.reference = ids.length === 1 ? ids[0] : null;
    this.given = new Map();
    byId("name-person").hidden = true;
    if (this.reference !== null && matches.length) {
      const asked = [this.reference, ...matches.map((match) => match.id)].map((id) => `id=${id}`).join("&");
      const { verdicts } = await getJson(`/api/verdicts?${asked}`);
      for (const each of verdicts) {
        if (each.by !== this.gallery().user) continue;
        if (each.first === this.reference) this.given.set(each.second, each.answer);
        else if (each.second === this.reference) this.given.set(each.first, each.answer);
      }
    }
    this.#show();
  }

  async give(id, answer) {
    const before = this.given.get(id);
    const wanted = before === answer ? "withdrawn" : answer; // once more takes it back
    if (id === this.reference) return say(byId("status"), "This match is the reference: the others are compared with it.");
    try {
      if (this.reference === null) {
        if (wanted === "withdrawn") this.given.delete(id);
        else this.given.set(id, wanted);
        if (wanted !== "same") {
          say(byId("status"), "It is kept as soon as one match is called the same: the picture itself is no entry.");
          return this.#show();
        }
        this.reference = id;
        for (const [other, said] of this.given) if (other !== id) await this.#keep(other, said);
        say(byId("status"), "This match is the reference now: verdicts on others are kept with it.");
      } else {
        await this.#keep(id, wanted);
        if (wanted === "withdrawn") this.given.delete(id);
        else this.given.set(id, wanted);
        say(byId("status"), wanted === "withdrawn" ? "Taken back." : `Kept: ${ANSWERS[wanted].toLowerCase()}.`);
      }
    } catch (error) {
      say(byId("status"), error.message, true);
    }
    this.#show();
  }

  #keep(id, answer) {
    return postJson("/api/verdicts", { first: this.reference, second: id, answer });
  }

  #show() {
    for (const card of document.querySelectorAll("#matches .card")) {
      const id = Number(card.dataset.id);
      const answer = this.given.get(id);
      card.classList.toggle("same", answer === "same");
      card.classList.toggle("different", answer === "different");
      card.classList.toggle("reference", id === this.reference);
      for (const button of card.querySelectorAll("[data-answer]")) {
        button.setAttribute("aria-pressed", `${button.dataset.answer === answer}`);
      }
    }
    const same = [...this.given].filter(([, answer]) => answer === "same").map(([id]) => id);
    const all = this.reference === null ? [] : [...new Set([this.reference, ...same])];
    offerName(this.gallery(), all);
  }
}

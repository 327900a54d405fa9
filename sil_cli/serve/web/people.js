// People as cards: named, merged and split; and the name that is offered once matches are called the same.

import { getJson, postJson, showImage } from "./api.js";
import { byId, clock, make, say } from "./dom.js";

let zone = "UTC";
let mayJudge = false;

export async function showPeople(gallery) {
  zone = gallery.timezone;
  mayJudge = gallery.role !== "look";
  say(byId("people-status"), "Reading…");
  try {
    const list = await getJson("/api/people");
    byId("people").replaceChildren(...list.people.map(card));
    byId("merge-bar").hidden = !mayJudge || list.people.length < 2;
    const nobody = list.nobody ? ` ${count(list.nobody, "entry is", "entries are")} nobody’s yet.` : "";
    const first = `Nobody was found or named yet. “sil people find” groups the ${count(list.nobody, "entry", "entries")}; or search, call matches the same, and name them.`;
    say(byId("people-status"), list.people.length ? `${count(list.people.length, "person", "people")}.${nobody}` : first);
    selected();
  } catch (error) {
    byId("people").replaceChildren();
    say(byId("people-status"), error.message, true);
  }
}

const count = (number, one, more) => `${number.toLocaleString("en")} ${number === 1 ? one : more}`;

export const labelOf = (person) => person.name ?? `Person ${person.id}`;

function card(person) {
  const image = make("img", { alt: `${labelOf(person)}: the surest entry`, class: "shown" });
  if (person.best !== null) showImage(image, person.best);
  const times = [clock(person.first, zone), clock(person.last, zone)].filter(Boolean);
  const item = make("li", { class: "card", "data-person": person.id },
    make("h3", { tabindex: "-1" }, labelOf(person)),
    person.best === null ? null : image,
    make("p", {}, `${count(person.entries, "entry", "entries")}, ${person.confirmed} confirmed; cameras ${person.cameras.join(", ") || "unknown"}`),
    times.length ? make("p", { class: "faint" }, times.join(" to ")) : null,
    make("div", { class: "strip", hidden: true }),
    make("p", {}, make("button", { type: "button", onclick: (event) => open(person, item, event.target) }, "Show entries"),
      " ", person.best === null ? null : make("a", { href: `?id=${person.best}&group=camera` }, "Path over cameras")),
  );
  if (mayJudge) {
    const name = make("input", { type: "text", maxlength: "200", autocomplete: "off", value: person.name ?? "" });
    item.append(
      make("form", { class: "inline", onsubmit: (event) => { event.preventDefault(); change(`/api/people/${person.id}/name`, { name: name.value }, "Named"); } },
        make("label", {}, `Name of ${labelOf(person)}`, name), make("button", {}, "Name")),
      make("label", { class: "tick" }, make("input", { type: "checkbox", name: "merge", value: person.id, onchange: selected }), "Select to merge"),
      make("button", { type: "button", hidden: true, "data-split": true, onclick: () => split(person, item) }, "Split off the marked entries"));
  }
  return item;
}

async function open(person, item, button) {
  const strip = item.querySelector(".strip");
  try {
    const { entries } = await getJson(`/api/people/${person.id}`);
    strip.replaceChildren(...entries.filter((each) => each.state !== "rejected").slice(0, 100).map((entry) => {
      const image = make("img", { alt: `Entry ${entry.id}, camera ${entry.camera ?? "unknown"}, ${entry.state}` });
      showImage(image, entry.id);
      const mark = make("button", { type: "button", "aria-pressed": "false", "data-entry": entry.id, title: `entry ${entry.id}, ${entry.state}, confidence ${entry.confidence}` }, image);
      mark.addEventListener("click", () => {
        mark.setAttribute("aria-pressed", `${mark.getAttribute("aria-pressed") !== "true"}`);
        const marked = strip.querySelectorAll("[aria-pressed=true]").length;
        const splitter = item.querySelector("[data-split]");
        if (splitter) splitter.hidden = !marked;
      });
      return mark;
    }));
    strip.hidden = false;
    button.hidden = true;
  } catch (error) {
    say(byId("people-status"), error.message, true);
  }
}

function split(person, item) {
  const entries = [...item.querySelectorAll("[data-entry][aria-pressed=true]")].map((each) => Number(each.dataset.entry));
  change(`/api/people/${person.id}/split`, { entries }, "Split");
}

const chosen = () => [...document.querySelectorAll("#people input[name=merge]:checked")].map((each) => Number(each.value));

function selected() {
  const count = chosen().length;
  byId("merge").disabled = count < 2;
  byId("merge").textContent = count < 2 ? "Merge selected" : `Merge ${count} people into one`;
}

byId("merge").addEventListener("click", () => {
  const [first, ...others] = chosen();
  change(`/api/people/${first}/merge`, { others }, "Merged");
});

async function change(path, document_, done) {
  try {
    const { person } = await postJson(path, document_);
    await showPeople({ timezone: zone, role: mayJudge ? "judge" : "look" });
    say(byId("people-status"), `${done}: ${labelOf(person)}.`);
    document.querySelector(`[data-person="${person.id}"] h3`)?.focus(); // what was used is drawn anew, and its focus gone
  } catch (error) {
    await showPeople({ timezone: zone, role: mayJudge ? "judge" : "look" });
    say(byId("people-status"), error.message, true);
    byId("people-status").focus();
  }
}

// After a search: the entries that were called the same can be given a name.
export function offerName(gallery, ids) {
  const place = byId("name-person");
  place.hidden = ids.length < 2 || gallery.role === "look";
  if (place.hidden) return;
  byId("name-facts").textContent = `${ids.length} entries show the same person.`;
  place.dataset.ids = JSON.stringify(ids.slice(0, 1000));
}

byId("name-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const entries = JSON.parse(byId("name-person").dataset.ids ?? "[]");
  try {
    const { person } = await postJson("/api/people", { entries, name: byId("name-input").value });
    byId("name-facts").replaceChildren(`${labelOf(person)} has ${person.entries} entries now. `, make("a", { href: "?view=people" }, "See all people"));
    byId("name-input").value = "";
  } catch (error) {
    say(byId("status"), error.message, true);
  }
});

// The page: what the address says is what is searched, so that a view can be shared by its address.

import { getJson, keepToken, postForm, showImage } from "./api.js";
import { byId, clock, make, say } from "./dom.js";
import { showPeople } from "./people.js";
import { Picture } from "./picture.js";
import { showTimeline } from "./timeline.js";
import { Answers, ANSWERS } from "./verdicts.js";

const SIGNS = { match: "● match", possible: "◐ possible", "no match": "○ no match" };
let gallery = null;
let running = null;

const picture = new Picture(() => {
  const address = readForm();
  address.delete("id");
  goTo(address, false);
  showForm();
});
const answers = new Answers(() => gallery);

async function start() {
  try {
    gallery = await getJson("/api/gallery");
  } catch (error) {
    if (error.status === 401) return askForToken(error);
    return say(byId("status"), error.message, true);
  }
  const times = gallery.earliest ? `, ${clock(gallery.earliest, gallery.timezone)} to ${clock(gallery.latest, gallery.timezone)}` : "";
  const purpose = gallery.purpose ? ` Kept for: ${gallery.purpose}.` : "";
  const basis = gallery.legal_basis ? ` By: ${gallery.legal_basis}.` : "";
  byId("gallery-name").textContent = gallery.name;
  document.title = `${gallery.name} – sil`;
  byId("gallery-facts").textContent = `${gallery.entries.toLocaleString("en")} entries${times}.${purpose}${basis} You are ${gallery.user} (${gallery.role}). Searches are logged.`;
  byId("cameras").replaceChildren(...gallery.cameras.map((name) => make("label", {}, make("input", { type: "checkbox", value: name, name: "camera" }), name)));
  byId("cameras-field").hidden = gallery.cameras.length === 0;
  byId("purpose").required = gallery.require_purpose;
  show();
}

function askForToken(error) {
  const dialog = byId("login");
  say(byId("login-error"), error.status === 401 && sessionStorage.length ? error.message : "");
  if (!dialog.open) dialog.showModal();
}

byId("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken(byId("token").value.trim());
  byId("token").value = "";
  byId("login").close();
  start();
});

// What the form says, as the part of an address.
function readForm() {
  const address = new URLSearchParams(location.search);
  const keep = new URLSearchParams();
  for (const id of address.getAll("id")) keep.append("id", id);
  for (const tick of document.querySelectorAll("#cameras input:checked")) keep.append("camera", tick.value);
  for (const name of ["after", "before"]) if (byId(name).value) keep.set(name, byId(name).value);
  for (const name of ["identity", "where", "exclude_camera"]) for (const value of address.getAll(name)) keep.append(name, value);
  if (byId("top").value !== "20") keep.set("top", byId("top").value);
  if (byId("path").checked) keep.set("group", "camera");
  return keep;
}

// What the address says, put into the form.
function showForm() {
  const address = new URLSearchParams(location.search);
  const cameras = new Set(address.getAll("camera"));
  for (const tick of document.querySelectorAll("#cameras input")) tick.checked = cameras.has(tick.value);
  for (const name of ["after", "before"]) byId(name).value = address.get(name) ?? "";
  byId("top").value = address.get("top") ?? "20";
  byId("path").checked = address.get("group") === "camera";
  const ids = address.getAll("id");
  const from = byId("from-entry");
  from.hidden = ids.length === 0;
  if (ids.length) {
    from.replaceChildren(`Searching for entry ${ids.join(", ")} `, make("img", { alt: `Entry ${ids[0]}`, class: "shown" }));
    showImage(from.querySelector("img"), ids[0]);
    picture.forget();
  }
}

function goTo(address, isNew) {
  const text = `?${address}`;
  if (isNew && text !== location.search) history.pushState(null, "", text);
  else history.replaceState(null, "", text);
}

// Shows what the address says.
function show() {
  const address = new URLSearchParams(location.search);
  const isPeople = address.get("view") === "people";
  byId("people-view").hidden = !isPeople;
  byId("search-view").hidden = isPeople;
  for (const [id, here] of [["nav-search", !isPeople], ["nav-people", isPeople]]) {
    if (here) byId(id).setAttribute("aria-current", "page");
    else byId(id).removeAttribute("aria-current");
  }
  if (isPeople) return showPeople(gallery);
  showForm();
  if (address.getAll("id").length && (!gallery.require_purpose || byId("purpose").value)) return search();
  if (!picture.file) clear();
}

function clear() {
  byId("matches").replaceChildren();
  for (const id of ["matches-title", "keys", "timeline", "name-person"]) byId(id).hidden = true;
  say(byId("status"), address().getAll("id").length ? "Say what the search is for, and search." : "Drop a picture of the person to find.");
}

const address = () => new URLSearchParams(location.search);

async function search() {
  const asked = readForm();
  const ids = asked.getAll("id");
  if (!picture.file && !ids.length) return say(byId("status"), "Drop a picture of the person to find.", true);
  if (!byId("search").reportValidity()) return;
  running?.abort();
  running = new AbortController();
  const form = new FormData();
  for (const [name, value] of asked) form.append(name, value);
  form.set("top", byId("top").value);
  if (byId("purpose").value.trim()) form.set("purpose", byId("purpose").value.trim());
  if (!ids.length) {
    if (picture.file.size > gallery.max_upload) return say(byId("status"), "The picture is too large for this server.", true);
    form.append("image", picture.file, picture.file.name || "pasted");
    if (picture.box) form.append("box", picture.box.join(","));
  }
  say(byId("status"), "Searching…");
  try {
    const result = await postForm("/api/query", form, { signal: running.signal });
    await showResult(result, ids.map(Number));
  } catch (error) {
    if (error.name === "AbortError") return;
    clear();
    if (error.status === 401) askForToken(error);
    say(byId("status"), error.message, true);
  }
}

async function showResult(result, ids) {
  say(byId("status"), result.verdict);
  const cards = result.matches.map((match) => card(match));
  byId("matches").replaceChildren(...cards);
  byId("matches-title").hidden = byId("keys").hidden = !cards.length;
  byId("keys").hidden ||= gallery.role === "look";
  showTimeline(result.trail, gallery.timezone);
  await answers.begin(ids, result.matches);
}

function card(match) {
  const title = `Match ${match.rank}`;
  const facts = [match.identity, match.camera && `camera ${match.camera}`, clock(match.time, gallery.timezone)].filter(Boolean);
  const chance = match.expected_false_matches;
  const image = make("img", { alt: `${title}: ${match.identity ?? "a person"}`, loading: "lazy" });
  const item = make("li", { class: "card", tabindex: "0", "data-id": match.id, "aria-label": [title, match.decision, ...facts].filter(Boolean).join(", ") },
    make("p", { class: "top" }, make("b", {}, `${match.rank}`), make("span", { class: "faint" }, match.score.toFixed(3))),
    make("button", { class: "open", type: "button", "aria-label": `${title} larger`, onclick: () => enlarge(match) }, image),
    match.decision ? make("p", { class: match.decision.replace(" ", "-") }, SIGNS[match.decision]) : null,
    chance === null ? null : make("p", { class: "faint" }, `${chance < 0.01 ? "<0.01" : Number(chance.toPrecision(2))} by chance`),
    ...facts.map((fact) => make("p", {}, fact)),
    match.images > 1 ? make("p", { class: "faint" }, `tracklet of ${match.images} images`) : null,
    gallery.role === "look" ? null : make("div", { class: "answers", role: "group", "aria-label": `${title}: is it the same person?` },
      Object.entries(ANSWERS).map(([answer, word]) => make("button", { type: "button", "aria-pressed": "false", "data-answer": answer, onclick: () => answers.give(match.id, answer) }, word))),
    make("p", {}, make("a", { href: `?id=${match.id}`, "data-inside": true, "aria-label": `Neighbours of match ${match.rank}` }, "Neighbours")),
  );
  showImage(image, match.id);
  item.addEventListener("keydown", (event) => keys(event, item, match));
  return item;
}

function keys(event, item, match) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input")) return;
  const answer = { s: "same", d: "different", u: "unsure" }[event.key];
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (answer && gallery.role !== "look") answers.give(match.id, answer);
  else if (event.key === "n") item.querySelector("[data-inside]").click();
  else if (event.key === "Enter" && event.target === item) enlarge(match);
  else if (step) (step > 0 ? item.nextElementSibling : item.previousElementSibling)?.focus();
  else return;
  event.preventDefault();
}

function enlarge(match) {
  byId("larger-title").textContent = `Match ${match.rank}`;
  const image = byId("larger-image");
  image.removeAttribute("src");
  image.alt = `Match ${match.rank}: ${match.identity ?? "a person"}`;
  const facts = { score: match.score.toFixed(4), decision: match.decision, identity: match.identity, camera: match.camera, time: clock(match.time, gallery.timezone), entry: match.id, file: match.path, ...match.metadata };
  byId("larger-facts").replaceChildren(...Object.entries(facts).filter(([, value]) => value !== null && value !== "").flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, `${value}`)]));
  byId("larger-neighbours").href = `?id=${match.id}`;
  byId("larger").showModal();
  showImage(image, match.id, "whole");
}

byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  goTo(readForm(), true);
  search();
});

// Links within the page change the address, and nothing is loaded again.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='?']");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  byId("larger").close();
  goTo(new URLSearchParams(link.getAttribute("href")), true);
  show();
  scrollTo(0, 0);
});
addEventListener("popstate", show);
start();

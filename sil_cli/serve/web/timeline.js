// A person's path over cameras: a lane for each camera, time from left to right; a table says the same.

import { byId, clock, make, makeSvg } from "./dom.js";

const [LANE, LEFT, WIDTH, RIGHT] = [34, 120, 900, 20];

export function showTimeline(trail, zone) {
  const section = byId("timeline");
  section.hidden = !trail;
  if (!trail) return;
  byId("timeline-drawing").replaceChildren(trail.some((visit) => visit.start) ? drawing(trail, zone) : none());
  byId("timeline-table").replaceChildren(...(trail.length ? table(trail, zone) : []));
}

const none = () => make("p", { class: "faint" }, "No match is good enough to be part of a path, or none has a time.");

function drawing(trail, zone) {
  const timed = trail.filter((visit) => visit.start);
  const cameras = [...new Set(timed.map((visit) => visit.camera))];
  const [first, last] = [Math.min(...timed.map((v) => +new Date(v.start))), Math.max(...timed.map((v) => +new Date(v.end ?? v.start)))];
  const x = (time) => LEFT + ((+new Date(time) - first) / Math.max(1, last - first)) * (WIDTH - LEFT - RIGHT - 12);
  const y = (visit) => 24 + cameras.indexOf(visit.camera) * LANE;
  const height = 40 + cameras.length * LANE;
  const svg = makeSvg("svg", { width: WIDTH, height, viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": "The path over cameras; the table below says the same." });
  cameras.forEach((camera, at) => {
    const level = 24 + at * LANE;
    svg.append(makeSvg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: level, y2: level, class: "lane" }));
    svg.append(makeSvg("text", { x: 4, y: level + 4, class: "text" }, camera.length > 15 ? `${camera.slice(0, 14)}…` : camera));
  });
  timed.forEach((visit, at) => {
    if (at) svg.append(makeSvg("path", { class: "hop", d: `M ${x(timed[at - 1].end ?? timed[at - 1].start)} ${y(timed[at - 1])} L ${x(visit.start)} ${y(visit)}` }));
  });
  for (const visit of timed) {
    const kind = { match: "visit-match", possible: "visit-possible" }[visit.decision] ?? "visit-other";
    const from = x(visit.start);
    svg.append(makeSvg("rect", { x: from, y: y(visit) - 8, width: Math.max(12, x(visit.end ?? visit.start) - from), height: 16, rx: 6, class: kind },
      makeSvg("title", {}, `${visit.camera}, ${clock(visit.start, zone)}, ${visit.images} images`)));
  }
  const level = height - 6;
  svg.append(makeSvg("text", { x: LEFT, y: level, class: "text-faint" }, clock(new Date(first).toISOString(), zone)));
  svg.append(makeSvg("text", { x: WIDTH - RIGHT, y: level, class: "text-faint", "text-anchor": "end" }, clock(new Date(last).toISOString(), zone)));
  return svg;
}

function table(trail, zone) {
  const head = ["camera", "from", "to", "images", "best score", "decision", "note"];
  const row = (visit) => [
    visit.camera, clock(visit.start, zone) || "unknown", clock(visit.end, zone), `${visit.images}`, visit.score.toFixed(3),
    visit.decision ?? "", visit.at_once ? "elsewhere at once" : "",
  ];
  return [
    make("thead", {}, make("tr", {}, head.map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, trail.map((visit) => make("tr", {}, row(visit).map((cell) => make("td", {}, cell))))),
  ];
}

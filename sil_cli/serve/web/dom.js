// Making elements: text is always text, never markup.

export const byId = (id) => document.getElementById(id);

export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  fill(element, attributes, children);
  return element;
}

export function makeSvg(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  fill(element, attributes, children);
  return element;
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
}

export function say(element, text, isError = false) {
  element.textContent = text;
  element.classList.toggle("error", isError);
}

// A time as a clock in the server’s zone shows it.
export function clock(text, zone) {
  if (!text) return "";
  const options = { dateStyle: "short", timeStyle: "medium", timeZone: zone === "local" ? undefined : zone };
  try {
    return new Intl.DateTimeFormat("sv-SE", options).format(new Date(text));
  } catch {
    return text;
  }
}

// What a screen reader, a keyboard and weak eyes need of the page as it is now; returns what is wrong, a line each.
// Roles and names as WAI-ARIA 1.2 and accname have them, contrast as WCAG 2.2, 1.4.3, 1.4.11.
() => {
  const wrong = [];
  const shown = (element) => element.checkVisibility({ visibilityProperty: true }) && element.getClientRects().length > 0;
  const open = document.querySelector("dialog[open]");
  const all = [...(open ?? document.body).querySelectorAll("*")].filter(shown);
  const told = (element) => element.outerHTML.slice(0, 120);

  const nameOf = (element) => {
    const by = element.getAttribute("aria-labelledby");
    const label = by ? by.split(" ").map((id) => document.getElementById(id)?.textContent ?? "").join(" ")
      : element.getAttribute("aria-label") ?? (element.labels?.length ? [...element.labels].map((each) => each.textContent).join(" ") : null);
    const images = [...element.querySelectorAll("img[alt], svg[aria-label]")].map((each) => each.alt ?? each.getAttribute("aria-label"));
    return (label ?? `${element.textContent} ${images.join(" ")} ${element.title}`).trim();
  };
  for (const element of all) {
    const { tagName } = element;
    if (["INPUT", "BUTTON", "A", "SELECT", "TEXTAREA", "SUMMARY"].includes(tagName) && !nameOf(element)) wrong.push(`no name: ${told(element)}`);
    if (tagName === "IMG" && !element.hasAttribute("alt")) wrong.push(`no alt: ${told(element)}`);
    if (["FORM", "DIALOG", "FIELDSET"].includes(tagName) && element.id === "search" && !nameOf(element)) wrong.push(`no name: ${told(element)}`);
    if (tagName === "TH" && !element.scope) wrong.push(`no scope: ${told(element)}`);
    if (element.tabIndex > 0) wrong.push(`its own place in the order of focus: ${told(element)}`);
    if (["group", "region", "dialog"].includes(element.getAttribute("role")) && !nameOf(element)) wrong.push(`no name: ${told(element)}`);
    const focusable = element.tabIndex === 0 && !["INPUT", "BUTTON", "A", "SUMMARY"].includes(tagName);
    if (focusable && !element.getAttribute("role") && tagName !== "LI" && tagName !== "DIALOG") wrong.push(`focus without a role: ${told(element)}`);
    if (["BUTTON", "INPUT"].includes(tagName) && !element.classList.contains("unseen")) {
      const { width, height } = (tagName === "INPUT" && element.labels?.[0] ? element.labels[0] : element).getBoundingClientRect();
      if (width < 24 || height < 24) wrong.push(`smaller than 24 pixels: ${told(element)}`); // WCAG 2.5.8
    }
  }
  const ids = [...document.querySelectorAll("[id]")].map((each) => each.id);
  for (const id of new Set(ids)) if (ids.filter((each) => each === id).length > 1) wrong.push(`id ${id} stands twice`);
  if (!document.documentElement.lang || !document.title) wrong.push("no language or title");
  if (!open && all.filter((each) => each.tagName === "MAIN").length !== 1) wrong.push("not one main part");
  const levels = all.filter((each) => /^H\d$/.test(each.tagName)).map((each) => Number(each.tagName[1]));
  levels.forEach((level, at) => { if (at && level > levels[at - 1] + 1) wrong.push(`h${levels[at - 1]} is followed by h${level}`); });
  if (!all.some((each) => each.getAttribute("role") === "status") && !open) wrong.push("nothing tells a screen reader what happens");

  const channels = (text) => text.match(/[\d.]+/g).map(Number);
  const over = ([r, g, b, a = 1], under) => [r, g, b].map((each, at) => each * a + under[at] * (1 - a));
  const behind = (element) => {
    const colours = [];
    for (let at = element; at; at = at.parentElement) colours.push(channels(getComputedStyle(at).backgroundColor));
    return colours.reverse().reduce((under, colour) => over(colour, under), [255, 255, 255]);
  };
  const light = (colour) => {
    const [r, g, b] = colour.map((each) => each / 255).map((each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  for (const element of all) {
    const hasText = [...element.childNodes].some((each) => each.nodeType === Node.TEXT_NODE && each.textContent.trim());
    const style = getComputedStyle(element);
    const under = behind(element);
    if (hasText && !element.closest(":disabled, svg")) {
      const ratio = contrast(over(channels(style.color), under), under);
      const size = parseFloat(style.fontSize);
      const least = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
      if (ratio < least) wrong.push(`contrast ${ratio.toFixed(2)}: ${told(element)}`);
    }
    if (element.matches("input[type=text], input[type=number], input[type=password], input[type=datetime-local], button:not(.open, .main, .strip button)") && !element.disabled) {
      const ratio = contrast(over(channels(style.borderTopColor), under), behind(element.parentElement));
      if (ratio < 3) wrong.push(`contrast ${ratio.toFixed(2)} of its border: ${told(element)}`);
    }
  }
  return wrong;
}

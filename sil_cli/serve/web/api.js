// Asking the server: every request carries the token, where there is one, and every failure is its two lines.

const KEY = "sil-token";

export class ServerError extends Error {
  constructor(status, what, fix) {
    super(`${what} ${fix}`);
    this.status = status;
  }
}

export function keepToken(token) {
  sessionStorage.setItem(KEY, token);
}

async function ask(path, options = {}) {
  const token = sessionStorage.getItem(KEY);
  const headers = { ...(options.headers ?? {}), ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError(0, "The server doesn’t answer.", "Look whether it still runs.");
  }
  if (answer.ok) return answer;
  let told = { what: `The server answered ${answer.status}.`, fix: "" };
  try {
    told = (await answer.json()).error ?? told;
  } catch { /* not one of its own answers */ }
  throw new ServerError(answer.status, told.what, told.fix);
}

export const getJson = async (path, options) => (await ask(path, options)).json();

export const postForm = async (path, form, options) => (await ask(path, { ...options, method: "POST", body: form })).json();

export const postJson = async (path, document) =>
  (await ask(path, { method: "POST", body: JSON.stringify(document), headers: { "Content-Type": "application/json" } })).json();

// An entry's image as the address of a blob; whoever shows it lets go of it.
export async function imageOf(id, size = "thumbnail", options = {}) {
  const answer = await ask(`/api/entries/${id}/image?size=${size}`, options);
  return URL.createObjectURL(await answer.blob());
}

// Shows an entry's image, once it is near the window.
export function showImage(image, id, size = "thumbnail") {
  const watcher = new IntersectionObserver(async (seen) => {
    if (!seen.some((each) => each.isIntersecting)) return;
    watcher.disconnect();
    try {
      image.src = await imageOf(id, size);
      image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
    } catch (error) {
      image.alt = `No image: ${error.message}`;
    }
  }, { rootMargin: "400px" });
  watcher.observe(image);
}

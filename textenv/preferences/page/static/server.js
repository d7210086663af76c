// Asking the server, and keeping answers until it has acknowledged them.

/** The server did not answer, or cannot keep anything now: try again. */
export class Unreachable extends Error {}

/** The server says that the request is wrong: trying again would not help. */
export class Refused extends Error {}

/** Ask the server; both sides are JSON. */
export async function ask(path, body = {}) {
  let response;
  let answer;
  try {
    response = await fetch(`api/${path}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(15000),
    });
    answer = await response.json();
  } catch {
    throw new Unreachable("The server does not answer.");
  }
  if (response.status === 400) throw new Refused(answer.error);
  if (!response.ok) throw new Unreachable(`The server says: ${answer.error}.`);
  return answer;
}

// Answers under way, by their keys; they outlive the tab. The path holds the token, which is the
// database's own.
const shelf = `textenv-unsent ${location.pathname}`;
let memory = {};

export function unsent() {
  try {
    return { ...memory, ...JSON.parse(localStorage.getItem(shelf) || "{}") };
  } catch {
    return memory; // storage is switched off
  }
}

export function keep(answer) {
  write({ ...unsent(), [answer.key]: answer });
}

export function drop(key) {
  const { [key]: _, ...others } = unsent();
  write(others);
}

function write(answers) {
  memory = answers;
  try {
    localStorage.setItem(shelf, JSON.stringify(answers));
  } catch {
    // they are kept as long as the page is open
  }
}

/** A name that no other answer has. */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

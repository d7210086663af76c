// The page of a rater: one question, an answer, the next one. Texts only ever become textContent.

import { ask, drop, keep, newKey, Refused, unsent } from "./server.js";

const PAUSE = 200; // ms in which a new question takes no answer, so that a double click gives one
const LOOK_AGAIN = 8000; // ms, when there is nothing to rate

const at = (id) => document.getElementById(id);
const main = document.querySelector("main");
let state = null; // what the server said last
let ready = false; // whether an answer is taken now

// Showing

function show(next) {
  state = next;
  const { question } = state;
  at("asked").hidden = at("choices").hidden = at("scale").hidden = !question;
  at("finished").hidden = Boolean(question);
  at("verdict").hidden = false;
  showProgress();
  for (const id of ["who", "code"]) at(id).textContent = state.rater;
  enable(at("undo"), state.last !== null);
  for (const id of ["skip", "flag"]) at(id).hidden = !question;
  if (question) showQuestion(question);
  else showEnd();
  pause();
}

function showProgress() {
  at("progress").max = Math.max(state.total, 1);
  at("progress").value = state.done;
  at("count").textContent = `${state.done} of ${state.total}`;
}

function showQuestion(question) {
  const pair = question.kind === "pair";
  at("pair").hidden = at("choices").hidden = !pair;
  at("single").hidden = at("scale").hidden = pair;
  at("heading").textContent = pair ? "Which text is better?" : "How good is this text?";
  fill(at("prompt"), question.prompt);
  document.querySelector(".prompt").hidden = question.prompt === "";
  if (pair) {
    fill(at("left"), question.left);
    fill(at("right"), question.right);
  } else {
    fill(at("text"), question.text);
    showScale();
  }
  at("flagged").hidden = question.flagged === null;
  at("flagged").textContent = `Flagged for review: ${question.flagged}`;
  scrollTo(0, 0);
}

function fill(element, text) {
  element.classList.toggle("empty", text.trim() === "");
  element.textContent = text.trim() === "" ? "(no text)" : text;
  // dir="auto" has found where the text begins; its frame and its label begin there, too.
  element.parentElement.dir = getComputedStyle(element).direction;
}

function showScale() {
  const [low, high] = state.scale;
  const steps = at("steps");
  if (steps.childElementCount === high - low + 1) return;
  steps.replaceChildren();
  for (let number = low; number <= high; number++) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.answer = number;
    button.textContent = String(number).replace("-", "−");
    const end = { [low]: ", worst", [high]: ", best" }[number] ?? "";
    button.setAttribute("aria-label", button.textContent + end);
    button.addEventListener("click", () => answer(number));
    steps.append(button);
  }
}

function showEnd() {
  const { done, elsewhere } = state;
  let title = "All done. Thank you.";
  let words = `You have answered all ${done}. You can still undo, or leave this page.`;
  if (elsewhere) {
    title = "Nearly done.";
    words = "The last ones are with other raters. This page looks again by itself.";
  } else if (!done) {
    title = "Nothing to rate now.";
    words = "This page looks again by itself.";
  }
  at("heading").textContent = title;
  at("finished-words").textContent = words;
}

function say(words, loud = false) {
  at("status").textContent = words;
  at("status").classList.toggle("loud", loud);
}

function enable(button, can) {
  button.setAttribute("aria-disabled", String(!can));
}

function pause() {
  ready = false;
  main.dataset.state = "pause";
  setTimeout(() => {
    ready = true;
    main.dataset.state = state.question ? "ready" : "finished";
  }, PAUSE);
}

// Answering

function answer(said) {
  if (!ready || !state.question) return;
  const { id, kind } = state.question;
  const sent = { key: newKey(), rater: state.rater, question: id, kind, answer: said };
  keep(sent); // before it is sent: a page that is closed now sends it when it is opened again
  deliver(sent);
}

async function deliver(sent) {
  const next = await insist(() => ask("rate", sent), "Your answer is kept here and sent again.");
  drop(sent.key);
  if (!next) return;
  show(next);
  const kept = next.note ? "You had answered this already: the first answer stands." : "Kept.";
  say(next.question ? `${kept} ${next.done} of ${next.total} done.` : kept);
}

async function undo() {
  if (!ready || state.last === null) return;
  const request = { rater: state.rater, rating: state.last };
  const next = await insist(() => ask("undo", request), "Nothing is lost; it is tried again.");
  if (!next) return;
  show(next);
  say("Taken back: answer it again.");
}

/** Ask until there is an answer; where the request is wrong, say so and look what is true. */
async function insist(request, comfort) {
  ready = false;
  main.dataset.state = "busy";
  for (let wait = 500; ; wait = Math.min(2 * wait, 8000)) {
    try {
      const answered = await request();
      say("");
      return answered;
    } catch (error) {
      if (error instanceof Refused) {
        const now = await insist(look, "");
        show(now);
        say(error.message, true);
        return null;
      }
      say(`${error.message} ${comfort}`, true);
      main.dataset.state = "waiting";
      await Promise.race([sleep(wait), online()]);
    }
  }
}

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const online = () => new Promise((done) => addEventListener("online", done, { once: true }));

// Keys

const KEYS = { 0: "tie", "=": "tie", 1: "left", 2: "right", ArrowLeft: "left", ArrowRight: "right" };

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || at("help").open) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const single = state?.question?.kind === "text";
  if (key === "?") help(true);
  else if (key === "u") undo();
  else if (key === "s" || key === "f") answer(key === "s" ? "skip" : "flag");
  else if (single && key.startsWith("Arrow")) return along(event, key);
  else if (single && /^[1-9]$/.test(key)) rateStep(Number(key) - 1);
  else if (!single && key in KEYS) answer(KEYS[key]);
  else return;
  event.preventDefault();
}

function rateStep(step) {
  const [low, high] = state.scale;
  if (low + step <= high) answer(low + step);
}

function along(event, key) {
  const buttons = [...at("steps").children];
  const now = buttons.indexOf(document.activeElement);
  const middle = (buttons.length - 1) / 2;
  const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
  if (!step) return;
  const next = now < 0 ? Math.floor(middle) : now + step;
  buttons[Math.max(0, Math.min(next, buttons.length - 1))].focus();
  event.preventDefault();
}

// Help, and who one is

function help(open) {
  at("enter-error").textContent = "";
  if (open) at("help").showModal();
  else at("help").close();
}

async function become(path, body) {
  at("enter-error").textContent = "";
  try {
    show(await ask(path, body));
    help(false);
    say(`You are ${state.rater} now.`);
  } catch (error) {
    at("enter-error").textContent = error.message;
  }
}

// The beginning

/** Ask what there is: for whom this page is, or for whom the browser remembers. */
function look() {
  return ask("state", state ? { rater: state.rater } : {});
}

async function lookAgain() {
  if (!ready || state.question || document.hidden || at("help").open) return;
  try {
    const next = await look();
    if (ready && !state.question && JSON.stringify(next) !== JSON.stringify(state)) show(next);
  } catch {
    // next time
  }
}

for (const button of document.querySelectorAll("button[data-answer]")) {
  button.addEventListener("click", () => answer(button.dataset.answer));
}
at("undo").addEventListener("click", undo);
at("who").addEventListener("click", () => help(true));
at("help-open").addEventListener("click", () => help(true));
at("help-close").addEventListener("click", () => help(false));
at("enter").addEventListener("click", () => become("enter", { code: at("enter-code").value }));
at("enter-code").addEventListener("keydown", (event) => {
  if (event.key === "Enter") at("enter").click();
});
at("leave").addEventListener("click", () => become("leave"));
document.addEventListener("keydown", pressed);
setInterval(lookAgain, LOOK_AGAIN);

say("Loading …");
for (const sent of Object.values(unsent())) await deliver(sent);
const first = await insist(look, "It is tried again.");
if (first) show(first);

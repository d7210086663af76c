// The page of results. Texts and names only ever become textContent.

import { ask } from "./server.js";

const at = (id) => document.getElementById(id);
const REVIEWS = { fine: "Reviewed: fine.", removed: "Removed: nobody is asked, nothing is exported." };
const NAMES = {
  better: "one preferred",
  tie: "equal",
  number: "numbers",
  skip: "skipped",
  flag: "flagged",
};

function make(tag, words = "", className = "") {
  const element = document.createElement(tag);
  element.textContent = words;
  if (className) element.className = className;
  return element;
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;
const plain = (number) => (number === null ? "–" : number.toFixed(2).replace("-", "−"));
const plural = (n, thing) => `${n} ${thing}${n === 1 ? "" : "s"}`;

function showCounts({ counts, raters, left }) {
  const shown = { ...counts, better: counts.better + counts.worse };
  at("counts").replaceChildren(
    ...Object.entries(NAMES).map(([kind, name]) => {
      const box = make("div");
      box.append(make("dt", name), make("dd", String(shown[kind])));
      return box;
    }),
  );
  const each = raters.length > 1 ? ` (${raters.join(", ")} answers)` : "";
  const side = left.n ? ` The text on the left won ${percent(left.share)} of ${left.n}.` : "";
  at("raters").textContent = `By ${plural(raters.length, "rater")}${each}.${side}`;
}

/** A bar from low to high with a mark in the middle, on a track from `from` to `to`. */
function bar([mean, low, high], from, to, middle) {
  const track = make("div", "", "track");
  track.setAttribute("aria-hidden", "true");
  const place = (value) => (100 * (value - from)) / (to - from);
  const half = make("span", "", "half");
  half.style.left = `${place(middle)}%`;
  const interval = make("span", "", "interval");
  interval.style.left = `${place(low)}%`;
  interval.style.width = `${Math.max(place(high) - place(low), 0.5)}%`;
  const dot = make("span", "", "dot");
  dot.style.left = `${place(mean)}%`;
  track.append(half, interval, dot);
  return track;
}

function row(name, detail, track, value, interval) {
  const line = make("div", "", "line");
  const left = make("div", "", "name");
  left.append(make("strong", name), make("span", detail, "quiet"));
  const right = make("div", "", "value");
  right.append(make("strong", value), make("span", interval, "quiet"));
  line.append(left, track, right);
  return line;
}

function showWins(rates) {
  const lines = rates.map(({ policy, against, n, rate }) => {
    const [mean, low, high] = rate;
    const interval = `${percent(low)} … ${percent(high)}`;
    return row(`${policy} against ${against}`, plural(n, "pair"), bar(rate, 0, 1, 0.5), percent(mean), interval);
  });
  at("wins").replaceChildren(...(lines.length ? lines : [make("p", "No two policies were compared yet.")]));
}

function showMeans(ratings, [low, high]) {
  at("means-section").hidden = !ratings.length;
  const lines = ratings.map(({ policy, n, mean }) => {
    const interval = `${plain(mean[1])} … ${plain(mean[2])}`;
    return row(policy, plural(n, "text"), bar(mean, low, high, (low + high) / 2), plain(mean[0]), interval);
  });
  at("means").replaceChildren(...lines);
}

function showAgreement({ alpha, pairs, rating_alpha, texts, kappas }) {
  const list = make("dl", "", "counts");
  const add = (name, value, detail) => {
    const box = make("div");
    box.append(make("dt", name), make("dd", plain(value)), make("dd", detail, "quiet"));
    list.append(box);
  };
  add("Krippendorff's α", alpha, `${plural(pairs, "pair")} with two verdicts or more`);
  if (texts) add("α of the numbers", rating_alpha, plural(texts, "text"));
  for (const { raters, n, kappa } of kappas) {
    add(`Cohen's κ, ${raters.join(" and ")}`, kappa, plural(n, "pair"));
  }
  at("agreement").replaceChildren(list);
}

/** What a reviewer may say of a question, or has said. */
function reviewed(question, review) {
  const line = make("div", "", "review");
  const may = review ? [["Review again", null]] : [["Fine", "fine"], ["Remove", "removed"]];
  if (review) line.append(make("strong", REVIEWS[review]));
  for (const [words, said] of may) {
    const button = make("button", words);
    button.type = "button";
    button.addEventListener("click", () => show("review", { question, review: said }));
    line.append(button);
  }
  return line;
}

function showFlagged(flagged) {
  const items = flagged.map(({ id, prompt, texts, reason, raters, round, review }) => {
    const item = make("article", "", "card");
    const why = [reason && `filter: ${reason}`, raters && plural(raters, "rater")].filter(Boolean);
    item.append(make("h3", `${why.join(" · ")} · round ${round}`));
    for (const [words, kind] of [[prompt, "text from"], ...texts.map((text) => [text, "text"])]) {
      if (!words) continue;
      const shown = make("p", words, kind);
      shown.dir = "auto";
      shown.lang = "";
      item.append(shown);
    }
    item.append(reviewed(id, review));
    return item;
  });
  at("flagged-list").replaceChildren(...(items.length ? items : [make("p", "Nothing is flagged.")]));
}

async function show(path, body) {
  try {
    const results = await ask(path, body);
    showCounts(results);
    showWins(results.win_rates);
    showMeans(results.ratings, results.scale);
    showAgreement(results.agreement);
    showFlagged(results.flagged);
    at("content").hidden = false;
    document.querySelector("main").dataset.state = "ready";
  } catch (error) {
    at("status").textContent = `${error.message} Load the page again.`;
    at("status").classList.add("loud");
  }
}

await show("results");

"use strict";
// The table of questions. Text of the run only ever enters the page as text nodes, never as HTML.
(async () => {
  const box = document.getElementById("explorer");
  if (!box) return;
  if (!("DecompressionStream" in window)) {
    box.replaceChildren("This table needs a browser of 2023 or later. questions.csv beside this page holds its rows.");
    box.removeAttribute("data-waiting");
    return;
  }
  const data = await (await unpacked("data-index")).json();
  let more = null; // evidence, answers and passages: unpacked when a row is first opened
  const details = () => (more ??= unpacked("data-details").then((found) => found.json()));
  const PAGE = 50;
  const get = (id) => document.getElementById(id);
  const armName = Object.fromEntries(data.arms);
  const arms = data.arms.map(([arm]) => arm).filter((arm) => data.scores[arm] || data.causes[arm]);
  const rows = data.questions.map(([id, text, answer, split, tags], number) => ({
    number, id, text, answer, split, tags,
    hay: [id, text, answer, ...Object.values(tags)].join("\n").toLocaleLowerCase(),
  }));

  function make(name, attributes, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (key === "class") node.className = value;
      else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else node.setAttribute(key, value === true ? "" : value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
    return node;
  }

  const minus = (text) => text.replace("-", "−");
  const number = (value) => (value === null || value === undefined ? "–" : minus(value.toFixed(Math.abs(value) < 100 ? 3 : 0)));
  const signed = (value) => (value === null ? "–" : value > 0 ? "+" + number(value) : number(value));
  const score = (arm, metric, row) => data.scores[arm]?.[metric]?.[row.number] ?? null;
  const why = (arm, metric, row) => data.missing[arm]?.[metric]?.[row.number] ?? null;
  const fails = (reason) => reason !== null && !reason.startsWith("does not apply");
  const cause = (arm, row) => data.causes[arm]?.[row.number] ?? null;
  const causeName = (name) => (name ? data.causeNames[name] ?? name : "–");

  // Filters
  const metrics = [...new Set(arms.flatMap((arm) => Object.keys(data.scores[arm] || {})))];
  const tags = [...new Set(rows.flatMap((row) => Object.entries(row.tags).map((pair) => JSON.stringify(pair))))].sort();
  const options = (select, pairs, chosen) => {
    select.append(...pairs.map(([value, text]) => make("option", { value, selected: value === chosen }, text)));
    if (!pairs.length) select.append(make("option", { value: "" }, "–"));
  };
  const splits = [...new Set(rows.map((row) => row.split))].sort().reverse();
  const causes = [...new Set(Object.values(data.causes).flat())].filter(Boolean).sort();
  const named = arms.map((arm) => [arm, armName[arm]]);
  const has = (arm) => arms.includes(arm);
  options(get("f-split"), [["", "all"], ...splits.map((s) => [s, s])], "");
  options(get("f-cause"), [["", "all"], ...causes.map((c) => [c, causeName(c)])], "");
  options(get("f-tag"), [["", "all"], ...tags.map((t) => [t, JSON.parse(t).join(": ")])], "");
  options(get("f-metric"), metrics.map((m) => [m, m]), metrics.includes(data.answerMetric) ? data.answerMetric : metrics[0]);
  options(get("f-change"), [["", "all"], ["worse", "worse"], ["better", "better"], ["equal", "equal"], ["unknown", "a score is missing"]], "");
  options(get("f-from"), named, has(data.baseline) ? data.baseline : arms[0]);
  const ended = has(data.final) && data.final !== data.baseline;
  options(get("f-to"), named, ended ? data.final : arms[arms.length - 1]);

  const state = { sort: "delta", down: false, page: 0, found: [] };
  const from = () => get("f-from").value;
  const to = () => get("f-to").value;
  const metric = () => get("f-metric").value;
  const delta = (row) => {
    const before = score(from(), metric(), row), after = score(to(), metric(), row);
    return before === null || after === null ? null : after - before;
  };
  // How a change is to be read: 1 better, -1 worse, 0 equal; of some metrics less is better.
  const lower = new Set(data.lower);
  const gain = (row) => {
    const change = delta(row);
    return change === null ? null : Math.abs(change) < 1e-12 ? 0 : Math.sign(change) * (lower.has(metric()) ? -1 : 1);
  };
  const changes = { worse: -1, better: 1, equal: 0, unknown: null };
  const columns = [
    ["id", "Question", (row) => row.id, false],
    ["split", "Split", (row) => row.split, false],
    ["cause", () => "Cause", (row) => cause(to(), row) && causeName(cause(to(), row)), false],
    ["from", () => armName[from()] ?? "From", (row) => score(from(), metric(), row), true],
    ["to", () => armName[to()] ?? "To", (row) => score(to(), metric(), row), true],
    ["delta", "Change", delta, true], // regressions first, the largest of them leading; then gains, then what is equal
  ];

  function header() {
    get("q-head").replaceChildren(...columns.map(([key, title, , right]) => {
      const active = state.sort === key;
      const text = typeof title === "function" ? title() : title;
      const sortBy = () => {
        state.down = active ? !state.down : false;
        state.sort = key;
        state.page = 0;
        refresh();
        get("q-head").querySelector(`[data-key="${key}"]`).focus();
      };
      const arrow = !active ? "" : key === "delta" ? (state.down ? " (gains first)" : " (losses first)") : state.down ? " ▼" : " ▲";
      const order = !active ? null : key === "delta" ? "other" : state.down ? "descending" : "ascending";
      return make("th", { scope: "col", class: right ? "r" : null, "aria-sort": order },
        make("button", { type: "button", "data-key": key, onclick: sortBy }, text + arrow));
    }));
  }

  const order = new Intl.Collator(undefined, { numeric: true }).compare;
  function refresh() {
    const words = get("f-search").value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    const split = get("f-split").value, wanted = get("f-cause").value, change = get("f-change").value;
    const [tag, value] = get("f-tag").value ? JSON.parse(get("f-tag").value) : [];
    const key = columns.find(([name]) => name === state.sort)[2];
    const keyed = rows
      .filter((row) => (!split || row.split === split) && (!wanted || cause(to(), row) === wanted) &&
        (tag === undefined || row.tags[tag] === value) && (!change || gain(row) === changes[change]) && words.every((word) => row.hay.includes(word)))
      .map((row) => [key(row), row]);
    const turn = state.down ? -1 : 1;
    // What has no value stands last, whichever way the column is sorted.
    const rank = { "-1": state.down ? 1 : 0, 1: state.down ? 0 : 1, 0: 2 };
    keyed.sort(([a, x], [b, y]) => {
      if (a !== null && b !== null && state.sort === "delta") return rank[gain(x)] - rank[gain(y)] || Math.abs(b) - Math.abs(a) || x.number - y.number;
      if (a === null || b === null) return (a === null) - (b === null) || x.number - y.number;
      return turn * (typeof a === "number" ? a - b : order(a, b)) || x.number - y.number;
    });
    state.found = keyed.map(([, row]) => row);
    header();
    page();
  }

  function page() {
    const count = state.found.length, pages = Math.max(1, Math.ceil(count / PAGE));
    state.page = Math.min(Math.max(state.page, 0), pages - 1);
    const first = state.page * PAGE, shown = state.found.slice(first, first + PAGE);
    get("q-body").replaceChildren(...shown.map(line));
    if (!count) get("q-body").append(make("tr", {}, make("td", { colspan: columns.length, class: "none" }, "No question fits these filters.")));
    const gains = state.found.map(gain).filter((g) => g !== null);
    const better = gains.filter((g) => g > 0).length, worse = gains.filter((g) => g < 0).length;
    get("q-count").textContent = `${count} of ${rows.length} questions` +
      (from() === to() || !gains.length ? "" : `: ${better} better, ${gains.length - better - worse} equal, ${worse} worse, ${count - gains.length} without both scores`);
    get("q-page").textContent = count ? `${first + 1}–${first + shown.length} of ${count}` : "";
    get("q-prev").disabled = state.page === 0;
    get("q-next").disabled = state.page >= pages - 1;
  }

  function cell(arm, row) {
    const value = score(arm, metric(), row), reason = why(arm, metric(), row);
    return make("td", { class: "r num" }, value === null && reason ? make("span", { class: fails(reason) ? "missing" : "quiet", title: reason }, reason.split(":")[0]) : number(value));
  }

  function line(row) {
    const change = delta(row), sign = gain(row);
    const button = make("button", { type: "button", class: "open", "aria-expanded": "false", onclick: () => toggle(row, tr, button) },
      row.text, make("span", { class: "quiet" }, [row.id, ...Object.values(row.tags)].join(" · ")));
    const tr = make("tr", { class: "q" },
      make("th", { scope: "row" }, button), make("td", {}, row.split), make("td", {}, causeName(cause(to(), row))), cell(from(), row), cell(to(), row),
      make("td", { class: "r num " + (sign > 0 ? "up" : sign < 0 ? "down" : "") }, make("b", {}, signed(change))));
    return tr;
  }

  async function toggle(row, tr, button) {
    const opened = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!opened));
    if (opened) return void tr.nextSibling.remove();
    const cell = make("td", { colspan: columns.length }, "…");
    tr.after(make("tr", { class: "detail" }, cell));
    cell.replaceChildren(detail(row, await details()));
  }

  function detail(row, all) {
    const evidence = all.evidence[row.number];
    const located = { lost: "lost in parsing, as the baseline parses", fuzzy: "found fuzzily", normalised: "found", exact: "found" };
    const gold = evidence.map((e) => make("div", { class: "evidence" }, make("p", {}, e.text),
      make("p", { class: e.located === "lost" ? "missing" : "quiet" }, [e.doc_id, located[e.located]].filter(Boolean).join(" · "))));
    return make("div", {},
      make("h3", {}, "Reference answer"), make("p", { class: "answer" }, row.answer || "–"),
      make("h3", {}, "Gold evidence"), ...(gold.length ? gold : [make("p", { class: "none" }, "None: the documents do not answer this question.")]),
      make("h3", {}, "Answers"),
      make("div", { class: "arms" }, ...data.arms.map(([arm]) => armCard(arm, row, all))),
      make("h3", {}, "Retrieved passages"), ...data.arms.map(([arm]) => passages(arm, row, all)));
  }

  // Below the answers, over the whole width; those of the arm that is looked at are open.
  function passages(arm, row, all) {
    const contexts = all.answers[arm]?.[row.number]?.contexts;
    if (!contexts) return "";
    const withGold = contexts.filter(([, , spans]) => spans.length).length;
    const words = `${armName[arm]}: ${contexts.length} passage${contexts.length === 1 ? "" : "s"}, ${withGold} with gold evidence`;
    return make("details", { class: "passages", open: arm === to() }, make("summary", {}, words),
      ...contexts.map((context, rank) => passage(context, rank, all.chunks)));
  }

  function armCard(arm, row, all) {
    const answer = all.answers[arm]?.[row.number] ?? null;
    const shown = Object.keys(data.scores[arm] || {}), first = [...new Set([metric(), data.answerMetric])].filter((name) => shown.includes(name));
    const badges = (names) => names.flatMap((name) => {
      const value = score(arm, name, row), reason = why(arm, name, row);
      if (value === null && !fails(reason)) return [];
      return [make("span", {}, name + " ", value === null ? make("span", { class: "missing" }, reason) : make("b", { class: "num" }, number(value)))];
    });
    const values = badges(first), others = badges(shown.filter((name) => !first.includes(name)));
    if (!answer && !values.length && !others.length) return "";
    const more = others.length ? make("details", {}, make("summary", {}, `${others.length} more scores`), make("p", { class: "metrics" }, ...others)) : "";
    const head = make("h4", {}, armName[arm], make("span", { class: "quiet" }, cause(arm, row) ? causeName(cause(arm, row)) : ""));
    if (!answer) return make("div", { class: "arm" }, head, make("p", { class: "none" }, "The answer is not in the run folder."), make("p", { class: "metrics" }, ...values), more);
    const failed = answer.status ? make("p", { class: "missing" }, answer.status + (answer.detail ? ": " + answer.detail : "")) : "";
    const cost = [answer.seconds ? answer.seconds.toFixed(2) + " s" : "", answer.tokens ? answer.tokens + " tokens" : ""].filter(Boolean).join(", ");
    return make("div", { class: "arm" }, head, failed, answer.status ? "" : make("p", { class: "answer" }, answer.text || "(empty)"),
      make("p", { class: "metrics" }, ...values, cost ? make("span", {}, cost) : ""), verdicts(all.verdicts[arm]?.[row.number] ?? []), more);
  }

  // What the judge held of each claim, by metric.
  function verdicts(rows) {
    if (!rows.length) return "";
    const held = rows.filter(([, , , , supported]) => supported).length;
    return make("details", { open: true }, make("summary", {}, `judge: ${held} of ${rows.length} claims held`),
      make("ul", { class: "verdicts" }, ...rows.map(([name, repeat, claim, against, supported, reason]) =>
        make("li", { class: supported ? null : "no" }, make("span", { class: "sr" }, supported ? "held: " : "not held: "), claim,
          make("span", { class: "quiet" }, ` ${name}, against ${against}` + (repeat ? `, repeat ${repeat + 1}` : "") + (reason ? `: ${reason}` : ""))))));
  }

  function passage([chunk, value, spans], rank, chunks) {
    const [ref, heading, text] = chunks[chunk];
    return make("div", { class: "passage" },
      make("p", { class: "head num" }, `${rank + 1}. ${[ref, heading].filter(Boolean).join(" › ")}` + (value === null ? "" : ` · score ${number(value)}`) + (spans.length ? " · gold" : "")),
      make("p", {}, ...highlighted(text, spans)));
  }

  // Offsets count characters as Python does, so a character outside of the basic plane is one, not two.
  function highlighted(text, spans) {
    if (!spans.length) return [text];
    const letters = Array.from(text), parts = [];
    let at = 0;
    for (const [start, end] of [...spans].sort((a, b) => a[0] - b[0])) {
      const begin = Math.max(start, at);
      if (end <= begin) continue;
      parts.push(letters.slice(at, begin).join(""), make("mark", {}, letters.slice(begin, end).join("")));
      at = end;
    }
    return [...parts, letters.slice(at).join("")];
  }

  const again = () => { state.page = 0; refresh(); };
  let waiting = 0;
  get("f-search").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(again, 120); });
  for (const id of ["f-split", "f-cause", "f-tag", "f-metric", "f-change", "f-from", "f-to"]) get(id).addEventListener("change", again);
  box.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  const turn = (by) => { state.page += by; page(); get("f-search").scrollIntoView({ block: "nearest" }); };
  get("q-prev").addEventListener("click", () => turn(-1));
  get("q-next").addEventListener("click", () => turn(1));
  // A cause in the diagnosis leads to its questions.
  for (const link of document.querySelectorAll("[data-cause]")) {
    link.addEventListener("click", () => {
      get("f-cause").value = link.dataset.cause;
      again();
    });
  }
  refresh();
  box.removeAttribute("data-waiting");
})();

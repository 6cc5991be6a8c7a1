"use strict";
// Shows the digits to look at, group by group or on their pages, and gathers what a person says about them.
// Whatever comes from outside (names of files above all) is set as text, never as markup.
(() => {
  const GROUP = 20; // digits shown at once
  const MOST_PICTURES = 24; // decoded at a time
  const Z = 1.959964; // of Wilson's interval at 95 %, as in digitize/audit.py
  const AUTOSAVE_AFTER = 300; // milliseconds

  const byId = (id) => document.getElementById(id);
  const given = JSON.parse(byId("review").textContent);
  const pages = given.pages.map(([source, number, width, height]) => ({ source, number, width, height }));
  const digits = given.digits.map(([page, line, number, position, value, sure, other, otherSure, status, box, seen, failed = "", proposal = ""], index) => ({
    index, page, line, number, position, value, sure, other, otherSure, status, box, failed, proposal,
    crop: seen.length ? { sprite: seen[0], x: seen[1], y: seen[2], width: seen[3], height: seen[4], window: seen.slice(5, 9) } : null,
    audit: seen.length > 0 && seen[9] === 1,
  }));
  const queue = digits.filter((digit) => digit.crop);
  const audited = queue.filter((digit) => digit.audit);

  // What was said: by key (a digit's index, or "a1", "a2", ... for added ones) a string of digits, or what was added.
  const said = new Map();
  let log = []; // of steps; each a list of [key, before, after], null for nothing
  let groups = [];
  let group = 0;
  let active = null; // key
  let page = 0;
  let draft = null; // a box that is being added
  let view = "digits";

  // Words

  const percent = (share, places = 0) => `${(100 * share).toFixed(places)} %`;
  /** A name with what would not show, or would turn the letters around it, spelt out. */
  const shown = (name) => name.replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]/gu,
    (letter) => `⟨U+${letter.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
  const element = (name, text = "", kind = "") => {
    const made = document.createElement(name);
    made.textContent = text;
    made.className = kind;
    return made;
  };
  const announce = (text) => { byId("said").textContent = text; };
  const isAdded = (key) => typeof key === "string";
  const isSettled = (digit) => digit.status === "corrected" || digit.status === "confirmed";
  const reading = (key) => (isAdded(key) ? said.get(key)?.now : said.has(key) ? said.get(key) : String(digits[key].value));
  const verdict = (digit) => {
    const now = said.get(digit.index);
    if (now === undefined) return isSettled(digit) ? digit.status : "";
    if (now === "") return "no digit";
    return now === String(digit.value) ? "confirmed" : now.length > 1 ? `several: ${now}` : `corrected to ${now}`;
  };
  /** While digits of the audit are to be decided, nothing may tell them from the doubtful ones. */
  const isBlind = () => audited.some((digit) => !said.has(digit.index));
  const odds = (digit) => (isBlind() && !said.has(digit.index)
    ? { answer: "–", other: "–" }
    : { answer: percent(digit.sure), other: percent(digit.otherSure) });
  const place = (digit) => `page ${pages[digit.page].number}, line ${digit.line}, number ${digit.number}, digit ${digit.position}`;
  const ruled = (digit) => `number fails ${shown(digit.failed)}${digit.proposal ? `; ${digit.proposal} would pass` : ""}`;
  const described = (digit) => {
    const { answer, other } = odds(digit);
    const state = verdict(digit) || "undecided";
    const rules = digit.failed ? `${ruled(digit)}; ` : "";
    return `Read as ${digit.value}, ${answer}; runner-up ${digit.other}, ${other}; ${rules}${state}; ${shown(pages[digit.page].source)}, ${place(digit)}`;
  };

  // Pictures: data in the file, decoded when they are shown, and forgotten when many others were

  const pictures = new Map();
  const decode = (id) => {
    const known = pictures.get(id);
    if (known) {
      pictures.delete(id);
      pictures.set(id, known);
      return known;
    }
    const loading = new Promise((resolve, reject) => {
      const image = new Image();
      image.onload = () => resolve(image);
      image.onerror = () => reject(new Error(`${id} cannot be decoded`));
      image.src = `data:image/webp;base64,${byId(id).textContent}`;
    });
    pictures.set(id, loading);
    if (pictures.size > MOST_PICTURES) pictures.delete(pictures.keys().next().value);
    return loading;
  };
  const failed = (error) => announce(`A picture could not be shown: ${error.message}`);

  // What is said

  const put = (key, value) => { if (value === null) said.delete(key); else said.set(key, value); };
  const step = (changes) => {
    const real = changes.filter(([key, after]) => JSON.stringify(said.get(key) ?? null) !== JSON.stringify(after));
    if (real.length) {
      log.push(real.map(([key, after]) => [key, said.get(key) ?? null, after]));
      for (const [key, after] of real) put(key, after);
    }
    for (const [key] of changes) refresh(key);
    count();
    autosave();
  };
  const say = (now) => {
    if (draft) {
      if (now.length === 1) finishDraft(now);
      return;
    }
    if (active === null) return;
    if (isAdded(active)) {
      step([[active, now.length === 1 ? { ...said.get(active), now } : null]]);
      drawBoxes();
    } else {
      step([[active, now]]);
      announce(`${verdict(digits[active])}, was read as ${digits[active].value}. ${byId("left").textContent} left.`);
    }
    if (view === "digits") onward();
  };
  const accept = () => { if (active !== null && !draft) say(reading(active)); };
  const sweep = () => {
    if (view !== "digits" || !groups.length) return;
    const rest = groups[group].filter((digit) => !said.has(digit.index));
    step(rest.map((digit) => [digit.index, String(digit.value)]));
    announce(`${rest.length} accepted. ${byId("left").textContent} left.`);
    onward();
  };
  const undo = () => {
    const last = log.pop();
    if (!last) {
      announce("Nothing to undo.");
      return;
    }
    for (const [key, before] of last) put(key, before);
    const key = last[0][0];
    if (isAdded(key) || (view === "sheets")) {
      show("sheets");
      openPage(isAdded(key) ? (last[0][1] ?? last[0][2]).page : digits[key].page);
      activate(isAdded(key) && !said.has(key) ? null : key);
    } else {
      show("digits");
      goTo(key);
    }
    for (const [changed] of last) refresh(changed);
    count();
    autosave();
    announce(`Undone: ${last.length === 1 ? "one step" : `${last.length} digits`}. ${byId("left").textContent} left.`);
  };

  // Counting

  const wilson = (wrong, looked) => {
    const share = wrong / looked;
    const widen = 1 + (Z * Z) / looked;
    const middle = (share + (Z * Z) / (2 * looked)) / widen;
    const half = (Z * Math.sqrt((share * (1 - share)) / looked + (Z * Z) / (4 * looked * looked))) / widen;
    return [Math.max(0, middle - half), Math.min(1, middle + half)];
  };
  const count = () => {
    const left = queue.reduce((sum, digit) => sum + (said.has(digit.index) ? 0 : 1), 0);
    byId("left").textContent = String(left);
    byId("total").textContent = String(queue.length);
    byId("done").max = Math.max(1, queue.length);
    byId("done").value = queue.length - left;
    const wrong = digits.reduce((sum, digit) => sum + (said.has(digit.index) || isSettled(digit) ? 0 : 1 - digit.sure), 0);
    byId("expected").textContent = `${wrong.toFixed(1)} of ${digits.length} digits still expected wrong (${percent(wrong / Math.max(1, digits.length), 2)})`;
    if (!given.audit) return;
    if (isBlind() || !audited.length) {
      byId("audit").textContent = audited.length ? "Audit: told when all is decided" : "Audit: no digit was drawn";
      return;
    }
    const errors = audited.filter((digit) => said.get(digit.index) !== String(digit.value)).length;
    const [low, high] = wilson(errors, audited.length);
    byId("audit").textContent = `Audit: ${errors} of ${audited.length} accepted digits wrong, ${percent(errors / audited.length, 2)} (${percent(low, 2)} to ${percent(high, 2)} at 95 %)`;
  };

  // Keeping and saving

  const shelf = `digitize-review/${given.results.sha256}`;
  let waiting = 0;
  const keep = () => {
    clearTimeout(waiting);
    waiting = 0;
    try {
      localStorage.setItem(shelf, JSON.stringify({ said: [...said], log }));
    } catch (error) {
      announce(`This browser keeps nothing for this page (${error.name}): save before you close it.`);
    }
  };
  const autosave = () => { if (!waiting) waiting = setTimeout(keep, AUTOSAVE_AFTER); };
  const isSaid = ([key, value]) => (isAdded(key)
    ? /^a\d+$/.test(key) && value && pages[value.page] && /^[0-9]$/.test(value.now) && value.box?.length === 4
    : Number.isInteger(key) && key >= 0 && key < digits.length && typeof value === "string" && /^[0-9]{0,8}$/.test(value));
  const recall = () => {
    try {
      const kept = JSON.parse(localStorage.getItem(shelf) ?? "null");
      if (!kept) return;
      if (!kept.said.every(isSaid) || !Array.isArray(kept.log)) throw new TypeError("kept otherwise");
      for (const [key, value] of kept.said) said.set(key, value);
      log = kept.log;
      if (said.size) announce(`Taken up where you left off: ${said.size} decided.`);
    } catch (error) {
      announce(`What this browser kept could not be taken up (${error.name}).`);
    }
  };
  const named = ([left, top, width, height]) => ({ left, top, width, height });
  const corrections = () => {
    const keys = [...said.keys()];
    const decided = keys.filter((key) => !isAdded(key)).sort((a, b) => a - b).map((key) => digits[key]);
    return {
      schema: "digitize-corrections/1",
      results: given.results,
      audit: given.audit,
      decisions: decided.map((digit) => ({
        source: pages[digit.page].source,
        page: pages[digit.page].number,
        line: digit.line,
        number: digit.number,
        position: digit.position,
        box: named(digit.box),
        was: digit.value,
        now: said.get(digit.index),
        ...(digit.audit ? { audit: true } : {}),
      })),
      added: keys.filter(isAdded).map((key) => said.get(key)).map((one) => ({
        source: pages[one.page].source,
        page: pages[one.page].number,
        box: named(one.box),
        now: one.now,
      })),
    };
  };
  const save = () => {
    keep();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`${JSON.stringify(corrections(), null, 1)}\n`], { type: "application/json" }));
    link.download = given.saveAs;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    announce(`Saved ${said.size} decisions as ${given.saveAs}.`);
  };

  // The view by digit

  /** Place an element over a picture that shows so many pixels across and down. */
  const lay = (made, [left, top, width, height], [wide, tall]) => {
    made.style.left = `${(100 * left) / wide}%`;
    made.style.top = `${(100 * top) / tall}%`;
    made.style.width = `${(100 * width) / wide}%`;
    made.style.height = `${(100 * height) / tall}%`;
  };

  const regroup = () => {
    const blind = isBlind();
    byId("below").disabled = blind;
    byId("below").title = blind ? "Confidences are hidden until the audit is done" : "";
    const below = blind ? 2 : Number(byId("below").value) / 100;
    const value = byId("value").value;
    const sheet = byId("sheet").value;
    const wanted = byId("show").value;
    const passing = queue.filter((digit) => (below >= 1 || digit.sure < below)
      && (value === "" || digit.value === Number(value))
      && (sheet === "" || pages[digit.page].source === sheets[Number(sheet)])
      && (wanted === "all" || said.has(digit.index) === (wanted === "decided")));
    const least = (a, b) => a.sure - b.sure || a.index - b.index;
    const scattered = (a, b) => ((a.index * 2654435761) % 4294967296) - ((b.index * 2654435761) % 4294967296);
    groups = [];
    for (let number = 0; number < 10; number += 1) {
      const own = passing.filter((digit) => digit.value === number).sort(blind ? scattered : least);
      for (let start = 0; start < own.length; start += GROUP) groups.push(own.slice(start, start + GROUP));
    }
    const mean = (some) => some.reduce((sum, digit) => sum + digit.sure, 0) / some.length;
    if (!blind) groups.sort((a, b) => mean(a) - mean(b));
    openGroup(0);
  };
  const openGroup = (number, key = null) => {
    group = Math.max(0, Math.min(number, groups.length - 1));
    const own = groups[group] ?? [];
    byId("cards").replaceChildren(...own.map(card));
    byId("none").hidden = own.length > 0;
    for (const id of ["back", "next", "sweep"]) byId(id).hidden = !own.length;
    byId("group").textContent = own.length ? `Read as ${own[0].value}: group ${group + 1} of ${groups.length}, ${own.length} digits` : "";
    if (own.length) activate(key ?? (own.find((digit) => !said.has(digit.index)) ?? own[0]).index);
    else activate(null);
    for (const digit of groups[group + 1] ?? []) decode(`sprite-${digit.crop.sprite}`).catch(failed);
  };
  const card = (digit) => {
    const made = element("button", "", "card");
    made.type = "button";
    made.id = `digit-${digit.index}`;
    made.tabIndex = -1;
    const { crop } = digit;
    const picture = element("span", "", "crop");
    const canvas = element("canvas");
    canvas.width = crop.width;
    canvas.height = crop.height;
    const mark = element("span", "", "mark");
    const [left, top, width, height] = crop.window;
    lay(mark, [digit.box[0] - left, digit.box[1] - top, digit.box[2], digit.box[3]], [width, height]);
    picture.append(canvas, mark);
    const facts = element("span", "", "facts");
    facts.append(element("span", "", "answer"), element("span", "", "odds"), element("span", "", "state"));
    const where = element("span", "", "where");
    where.append(element("bdi", shown(pages[digit.page].source)), `, ${place(digit)}`);
    made.append(picture, facts, where);
    if (digit.failed) facts.after(element("span", ruled(digit), "rules"));
    made.addEventListener("click", () => activate(digit.index));
    decode(`sprite-${crop.sprite}`).then((image) => {
      canvas.getContext("2d").drawImage(image, crop.x, crop.y, crop.width, crop.height, 0, 0, crop.width, crop.height);
      made.dataset.drawn = "yes";
    }).catch(failed);
    fill(made, digit);
    return made;
  };
  const fill = (made, digit) => {
    const now = said.get(digit.index);
    const answer = made.querySelector(".answer");
    const changed = now !== undefined && now !== String(digit.value);
    answer.replaceChildren(...(changed ? [element("s", String(digit.value)), now === "" ? "✗" : now] : [String(digit.value)]));
    const { answer: sure, other } = odds(digit);
    made.querySelector(".odds").textContent = sure === "–" ? `or ${digit.other}` : `${sure}, or ${digit.other} at ${other}`;
    made.querySelector(".state").textContent = now === undefined ? "?" : changed ? "changed" : "✓";
    made.classList.toggle("decided", now !== undefined);
    made.setAttribute("aria-label", described(digit));
  };
  const onward = () => {
    const undecided = (digit) => !said.has(digit.index);
    const own = groups[group] ?? [];
    const at = own.findIndex((digit) => digit.index === active);
    const next = own.slice(at + 1).find(undecided) ?? own.find(undecided);
    if (next) {
      activate(next.index);
      return;
    }
    for (let ahead = 1; ahead <= groups.length; ahead += 1) {
      const number = (group + ahead) % groups.length;
      if (groups[number].some(undecided)) {
        openGroup(number);
        return;
      }
    }
    activate(active);
    announce(`All of these are decided. Save ${given.saveAs}, or choose other filters.`);
  };
  const goTo = (key) => {
    let number = groups.findIndex((own) => own.some((digit) => digit.index === key));
    if (number < 0) {
      for (const id of ["value", "sheet"]) byId(id).value = "";
      byId("below").value = "100";
      byId("show").value = "all";
      regroup();
      number = groups.findIndex((own) => own.some((digit) => digit.index === key));
    }
    if (number >= 0) openGroup(number, key);
  };

  // The view by sheet

  const openPage = (number) => {
    page = Math.max(0, Math.min(number, pages.length - 1));
    byId("page").value = String(page);
    draft = null;
    const wanted = page;
    const picture = byId("picture");
    picture.alt = pages.length ? `${shown(pages[page].source)}, page ${pages[page].number}` : "";
    if (pages.length) {
      decode(`page-${page}`).then((image) => { if (wanted === page) picture.src = image.src; }).catch(failed);
      picture.style.aspectRatio = `${pages[page].width} / ${pages[page].height}`;
    }
    drawBoxes();
  };
  const keysOf = (number) => [
    ...digits.filter((digit) => digit.page === number).map((digit) => digit.index),
    ...[...said.keys()].filter((key) => isAdded(key) && said.get(key).page === number),
  ];
  const boxOf = (key) => (isAdded(key) ? said.get(key).box : digits[key].box);
  const drawBoxes = () => {
    if (!pages.length) return;
    const made = keysOf(page).map((key) => {
      const box = element("button", "", "box");
      box.type = "button";
      box.id = `box-${key}`;
      box.tabIndex = -1;
      box.append(element("span"));
      lay(box, boxOf(key), [pages[page].width, pages[page].height]);
      box.addEventListener("click", () => activate(key));
      fillBox(box, key);
      return box;
    });
    byId("boxes").replaceChildren(...made);
    if (draft) showDraft();
  };
  const fillBox = (box, key) => {
    const now = reading(key);
    box.firstChild.textContent = now === "" ? "✗" : now;
    const decided = isAdded(key) || said.has(key) || isSettled(digits[key]);
    box.classList.toggle("decided", decided);
    box.classList.toggle("look", !decided && digits[key].crop !== null);
    box.classList.toggle("gone", now === "");
    box.setAttribute("aria-label", isAdded(key) ? `Added: ${now}` : described(digits[key]));
  };
  const showDraft = () => {
    byId("draft")?.remove();
    const box = element("div", "", "box draft");
    box.id = "draft";
    lay(box, draft, [pages[page].width, pages[page].height]);
    byId("boxes").append(box);
    box.scrollIntoView({ block: "nearest", inline: "nearest" });
  };
  const startDraft = () => {
    if (view !== "sheets" || !pages.length) return;
    const [left, top, width, height] = active !== null ? boxOf(active) : [0, 0, Math.ceil(pages[page].width / 40), Math.ceil(pages[page].width / 30)];
    draft = within([left + Math.round(1.2 * width), top, width, height]);
    byId("add").setAttribute("aria-pressed", "true");
    byId("boxes").classList.add("adding");
    showDraft();
    announce("Move the new box with the arrows, size it with Shift, then type its digit. Escape drops it. Or draw it with the pointer.");
  };
  const dropDraft = () => {
    draft = null;
    byId("draft")?.remove();
    byId("add").setAttribute("aria-pressed", "false");
    byId("boxes").classList.remove("adding");
  };
  const within = ([left, top, width, height]) => {
    const { width: wide, height: tall } = pages[page];
    const w = Math.max(1, Math.min(width, wide));
    const h = Math.max(1, Math.min(height, tall));
    return [Math.max(0, Math.min(left, wide - w)), Math.max(0, Math.min(top, tall - h)), w, h];
  };
  const finishDraft = (now) => {
    const box = draft;
    const used = [...log.flat().map(([key]) => key), ...said.keys()].filter(isAdded).map((key) => Number(key.slice(1)));
    const key = `a${Math.max(0, ...used) + 1}`;
    dropDraft();
    step([[key, { page, box, now }]]);
    drawBoxes();
    activate(key);
    announce(`Added a ${now}.`);
  };
  const pointed = (event) => {
    const frame = byId("boxes").getBoundingClientRect();
    return [(event.clientX - frame.left) * pages[page].width / frame.width, (event.clientY - frame.top) * pages[page].height / frame.height];
  };
  let from = null;
  byId("boxes").addEventListener("pointerdown", (event) => {
    if (!draft) return;
    event.preventDefault();
    from = pointed(event);
    byId("boxes").setPointerCapture(event.pointerId);
  });
  byId("boxes").addEventListener("pointermove", (event) => {
    if (!draft || !from) return;
    const to = pointed(event);
    const [left, top] = [0, 1].map((k) => Math.round(Math.min(from[k], to[k])));
    const [width, height] = [0, 1].map((k) => Math.round(Math.abs(from[k] - to[k])));
    draft = within([left, top, width, height]);
    showDraft();
  });
  byId("boxes").addEventListener("pointerup", () => {
    if (from) announce("Type the digit that stands in the new box.");
    from = null;
  });

  // Both views

  const refresh = (key) => {
    const made = isAdded(key) ? null : byId(`digit-${key}`);
    if (made) fill(made, digits[key]);
    const box = byId(`box-${key}`);
    if (box && (!isAdded(key) || said.has(key))) fillBox(box, key);
    if (key === active) tell();
    if (given.audit && !isBlind()) for (const digit of groups[group] ?? []) {
      const other = byId(`digit-${digit.index}`);
      if (other) fill(other, digit);
    }
    if (given.audit) byId("below").disabled = isBlind();
  };
  const tell = () => {
    if (active === null || (isAdded(active) && !said.has(active))) byId("active").textContent = "Choose a digit";
    else if (isAdded(active)) byId("active").textContent = `Added: ${reading(active)}`;
    else byId("active").textContent = `Read as ${digits[active].value}${verdict(digits[active]) ? `, ${verdict(digits[active])}` : ""}`;
  };
  const onScreen = (key) => byId(`${view === "digits" ? "digit" : "box"}-${key}`);
  /** Whether a box shows in the frame of its page. */
  const isInside = (made) => {
    const frame = byId("frame").getBoundingClientRect();
    const box = made.getBoundingClientRect();
    return box.left >= frame.left && box.right <= frame.right && box.top >= frame.top && box.bottom <= frame.bottom;
  };
  const activate = (key) => {
    for (const old of document.querySelectorAll(".card.active, .box.active")) {
      old.classList.remove("active");
      old.tabIndex = -1;
    }
    active = key;
    const made = key === null ? null : onScreen(key);
    if (made) {
      made.classList.add("active");
      made.tabIndex = 0;
      made.focus({ preventScroll: true });
      const beside = view === "sheets" && !isInside(made) ? "center" : "nearest";
      made.scrollIntoView({ block: beside, inline: beside });
    }
    tell();
  };
  const show = (wanted) => {
    view = wanted;
    dropDraft();
    for (const [id, button] of [["digits", "by-digit"], ["sheets", "by-sheet"]]) {
      byId(id).hidden = id !== wanted;
      byId(button).setAttribute("aria-pressed", String(id === wanted));
    }
  };
  const showSheets = () => {
    show("sheets");
    if (active !== null) openPage(isAdded(active) ? said.get(active)?.page ?? page : digits[active].page);
    else openPage(page);
    activate(active ?? keysOf(page)[0] ?? null);
  };
  const showDigits = () => {
    show("digits");
    if (active !== null && !isAdded(active) && digits[active].crop) goTo(active);
    else openGroup(group);
  };
  const turn = (by) => {
    if (view === "digits") openGroup(group + by);
    else if (pages.length) {
      openPage(page + by);
      activate(keysOf(page)[0] ?? null);
    }
  };
  const beside = (by) => {
    if (view === "sheets") {
      const keys = keysOf(page);
      const at = keys.indexOf(active) + by;
      if (keys[at] !== undefined) activate(keys[at]);
      return;
    }
    const own = groups[group] ?? [];
    const at = own.findIndex((digit) => digit.index === active) + by;
    if (own[at]) activate(own[at].index);
    else if (groups[group + by]) openGroup(group + by, (by > 0 ? groups[group + by][0] : groups[group + by].at(-1)).index);
  };
  const above = (by) => {
    const here = active === null ? null : onScreen(active);
    if (!here) return;
    const middle = (made) => {
      const box = made.getBoundingClientRect();
      return [box.left + box.width / 2, box.top + box.height / 2, box.height];
    };
    const [x, y, tall] = middle(here);
    let best = null;
    let least = Infinity;
    for (const other of here.parentElement.children) {
      if (other === here || !other.id || other.id === "draft") continue;
      const [otherX, otherY] = middle(other);
      const ahead = by * (otherY - y);
      const off = ahead + 2 * Math.abs(otherX - x);
      if (ahead > tall / 2 && off < least) {
        best = other;
        least = off;
      }
    }
    if (best) {
      const key = best.id.replace(/^\w+-/, "");
      activate(/^a/.test(key) ? key : Number(key));
    }
  };
  const moveDraft = (event, x, y) => {
    const [left, top, width, height] = draft;
    const by = Math.max(1, Math.round(height / 10));
    draft = within(event.shiftKey ? [left, top, width + by * x, height + by * y] : [left + by * x, top + by * y, width, height]);
    showDraft();
  };
  const split = () => {
    if (active === null || isAdded(active) || draft) return;
    byId("split-digits").value = "";
    byId("split").showModal();
  };
  const setSplit = () => {
    const now = byId("split-digits").value.trim();
    if (!/^[0-9]{1,8}$/.test(now)) {
      byId("split-digits").setCustomValidity("Type the digits that stand here, such as 13.");
      byId("split-digits").reportValidity();
      return;
    }
    byId("split").close();
    say(now);
  };

  const KEYS = {
    Enter: (event) => (event.shiftKey ? sweep() : accept()),
    x: () => say(""),
    s: split,
    u: undo,
    v: () => (view === "digits" ? showSheets() : showDigits()),
    a: startDraft,
    "?": () => byId("keys-help").showModal(),
    Escape: dropDraft,
    PageUp: () => turn(-1),
    PageDown: () => turn(1),
  };
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (document.querySelector("dialog[open]") || event.target.closest("input, select, textarea")) return;
    const elsewhere = event.target.closest("button") && !event.target.closest(".card, .box");
    if (event.key === "Enter" && elsewhere) return; // a button that has the focus is pressed by it
    const arrow = ARROWS[event.key];
    if (/^[0-9]$/.test(event.key)) say(event.key);
    else if (arrow && draft) moveDraft(event, ...arrow);
    else if (arrow) (arrow[0] ? beside(arrow[0]) : above(arrow[1]));
    else if (Object.hasOwn(KEYS, event.key)) KEYS[event.key](event);
    else return;
    event.preventDefault();
  });
  const press = (id, does) => byId(id).addEventListener("click", does);
  for (const [id, does] of [
    ["undo", undo], ["save", save], ["sweep", sweep], ["by-digit", showDigits], ["by-sheet", showSheets],
    ["back", () => turn(-1)], ["next", () => turn(1)], ["page-back", () => turn(-1)], ["page-next", () => turn(1)],
    ["accept", accept], ["no-digit", () => say("")], ["several", split], ["help", () => byId("keys-help").showModal()],
    ["help-close", () => byId("keys-help").close()], ["split-set", setSplit], ["split-cancel", () => byId("split").close()],
    ["add", () => (draft ? dropDraft() : startDraft())],
  ]) press(id, does);
  byId("split-digits").addEventListener("keydown", (event) => { if (event.key === "Enter") setSplit(); });
  byId("split-digits").addEventListener("input", () => byId("split-digits").setCustomValidity(""));
  byId("split").addEventListener("close", () => activate(active));
  byId("keys-help").addEventListener("close", () => activate(active));
  for (const id of ["below", "value", "sheet", "show"]) byId(id).addEventListener("change", regroup);
  byId("page").addEventListener("change", () => {
    openPage(Number(byId("page").value));
    activate(keysOf(page)[0] ?? null);
  });
  byId("zoom").addEventListener("change", () => { byId("sheet-page").style.width = `${100 * Number(byId("zoom").value)}%`; });
  addEventListener("pagehide", keep);

  const option = (value, text) => {
    const made = element("option", text);
    made.value = String(value);
    return made;
  };
  const sheets = [...new Set(pages.map((one) => one.source))];
  byId("name").textContent = shown(given.results.name);
  byId("save").textContent = `Save ${given.saveAs}`;
  byId("save-as").textContent = given.saveAs;
  byId("value").append(...Array.from({ length: 10 }, (_, value) => option(value, String(value))));
  byId("sheet").append(...sheets.map((source, k) => option(k, shown(source))));
  byId("page").append(...pages.map((one, k) => option(k, `${shown(one.source)}, page ${one.number}`)));
  byId("keys").append(...Array.from({ length: 10 }, (_, value) => {
    const made = element("button", String(value));
    made.type = "button";
    made.addEventListener("click", () => say(String(value)));
    return made;
  }));
  recall();
  regroup();
  count();
  document.documentElement.dataset.ready = "yes";
})();

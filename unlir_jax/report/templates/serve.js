"use strict";
// A photo is sent as it is; the page asks how far its report is, and shows it.
const form = document.querySelector("form");
const drop = form.querySelector(".drop");
const preview = drop.querySelector("img");
const [explain, stop] = form.querySelectorAll(".go button");
const bar = form.querySelector("progress");
const told = form.querySelector("output");
const reports = document.querySelector(".reports");
const frame = reports.querySelector("iframe");
const partsRow = form.querySelector("[data-parts].methods");
let photo = null;
let job = null;

function tell(sentence, wrong = false) {
  told.textContent = sentence;
  told.classList.toggle("wrong", wrong);
}

function take(file) {
  if (!file) return;
  if (file.size > Number(form.dataset.most)) {
    tell("The photo is too large.", true);
    return;
  }
  photo = file;
  URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(file);
  preview.hidden = false;
  drop.classList.add("ready");
  drop.querySelector("strong").textContent = file.name;
  drop.querySelector("small").textContent = "drop or press to take another";
  explain.disabled = job !== null;
  tell("");
}

function work(busy) {
  explain.disabled = busy || !photo;
  bar.hidden = stop.hidden = !busy;
}

function offerParts() {
  const chosen = form.elements.model.selectedOptions[0];
  partsRow.hidden = !(chosen && "parts" in chosen.dataset);
}

async function call(address, options) {
  const answer = await fetch(address, options);
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  return found;
}

function address() {
  const boxes = [...form.querySelectorAll("[name=methods]:checked")];
  const methods = boxes.filter((box) => !box.closest("[hidden]")).map((box) => box.value);
  return `jobs?${new URLSearchParams({
    name: photo.name,
    model: form.elements.model.value,
    methods: methods.join(","),
    label: form.elements.label.value,
    score: form.elements.score.value,
    controls: form.elements.controls.checked ? "1" : "0",
  })}`;
}

function show(link) {
  for (const other of reports.querySelectorAll("a")) other.removeAttribute("aria-current");
  link.setAttribute("aria-current", "true");
  frame.src = link.href;
  reports.hidden = false;
}

function add(name, file) {
  const link = document.createElement("a");
  link.href = `reports/${name}/report.html`;
  link.textContent = file;
  link.title = "Shown below; open it in a tab of its own to keep it";
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    show(link);
  });
  const item = document.createElement("li");
  item.append(link);
  reports.querySelector("ul").prepend(item);
  show(link);
  reports.scrollIntoView();
}

async function wait(name, file) {
  for (;;) {
    const found = await call(`jobs/${name}`);
    bar.value = found.share;
    if (found.state === "waiting") tell(`${found.ahead} before yours`);
    if (found.state === "running") tell(found.doing || "starting");
    if (found.state === "failed") throw new Error(found.error);
    if (found.state === "cancelled") return tell("Stopped.");
    if (found.state === "done") {
      tell("");
      return add(name, file);
    }
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const file = photo.name;
  bar.value = 0;
  work(true);
  try {
    const headers = { "Content-Type": "application/octet-stream" };
    job = (await call(address(), { method: "POST", body: photo, headers })).job;
    await wait(job, file);
  } catch (error) {
    const gone = error instanceof TypeError;
    tell(gone ? "Nobody answers: is `unlir serve` still running?" : error.message, true);
  }
  job = null;
  work(false);
});
stop.addEventListener("click", () => {
  if (job) call(`jobs/${job}`, { method: "DELETE" }).catch(() => tell("Stopped."));
});
form.elements.photo.addEventListener("change", ({ target }) => take(target.files[0]));
form.elements.model.addEventListener("change", offerParts);
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files[0]);
  });
}
document.addEventListener("paste", (event) => take(event.clipboardData.files[0]));
offerParts();
